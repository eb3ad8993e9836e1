"""A sample that changes while its views are dumped is found."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from softlab.errors import StoreMismatch
from softlab.identity import ContentHashes
from softlab.loading import loader
from softlab.loading.sample_check import HASHED_AT_START, check_contents, check_known_contents
from softlab.modalities import modality
from softlab.sources.source import Sample
from softlab.store.folder import count_finished_shards, is_unfinished
from tests.teacher.augmenting import dump_views
from tests.teacher.dumping import Pictures, stop_at

SOURCE = Pictures(count=30)


def hashes_of(source: Pictures) -> NDArray[np.uint8]:
    return ContentHashes([source.read(number).content_hash for number in range(len(source))]).bytes_N16.copy()


def test_a_few_samples_are_all_read_again() -> None:
    assert len(SOURCE) <= HASHED_AT_START

    check_contents(SOURCE, hashes_of(SOURCE), where="store")
    for number in (0, 15, 29):
        changed = replace(SOURCE, black=frozenset({number}))
        with pytest.raises(StoreMismatch, match=f"^store: sample '{number:04d}.png' of .* is not what the teacher saw"):
            check_contents(changed, hashes_of(SOURCE), where="store")


def test_what_is_not_known_yet_is_not_compared() -> None:
    hashes_N16 = hashes_of(SOURCE)
    hashes_N16[:16] = 0

    check_contents(replace(SOURCE, black=frozenset({3})), hashes_N16, where="store")


def test_a_source_that_was_encoded_anew_is_found_among_many() -> None:
    before = Pictures(count=4 * HASHED_AT_START)
    changed = replace(before, black=frozenset(range(len(before))))

    with pytest.raises(StoreMismatch, match=r"is not what the teacher saw: its content hash differs\. Get it back\.$"):
        check_contents(changed, hashes_of(before), where="store", next_step="Get it back.")


def in_stretches(hashes_N16: NDArray[np.uint8], *, size: int) -> list[NDArray[np.uint8]]:
    return [hashes_N16[start : start + size] for start in range(0, len(hashes_N16), size)]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_hashes_may_come_a_stretch_at_a_time(size: int) -> None:
    hashes_N16 = hashes_of(SOURCE)
    hashes_N16[5:10] = 0

    check_known_contents(SOURCE, in_stretches(hashes_N16, size=size), where="store")
    check_known_contents(replace(SOURCE, black=frozenset({7})), in_stretches(hashes_N16, size=size), where="store")
    for number in (0, 15, 29):
        changed = replace(SOURCE, black=frozenset({number}))
        with pytest.raises(StoreMismatch, match=f"sample '{number:04d}.png' of"):
            check_known_contents(changed, in_stretches(hashes_N16, size=size), where="store")


def test_of_many_that_come_so_as_many_are_read_from_all_of_them() -> None:
    many = Changing(count=10 * HASHED_AT_START)
    hashes_N16 = hashes_of(Pictures(count=len(many)))

    check_known_contents(many, in_stretches(hashes_N16, size=100), where="store")

    assert len(many.reads) == len(set(many.reads)) == HASHED_AT_START
    assert min(many.reads) < 100 < 540 < max(many.reads), "that all are of one half has a probability below 1e-18"


@dataclass(frozen=True, kw_only=True)
class Changing(Pictures):
    """Picture 20 is another one whenever it is read again."""

    reads: list[int] = field(default_factory=list)

    def read(self, index: int) -> Sample:
        self.reads.append(index)
        changed = index == 20 and self.reads.count(20) > 1
        return Pictures(black=frozenset({20})).read(index) if changed else super().read(index)


def test_a_sample_that_changes_between_two_of_its_views_is_refused_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "DECODED_BYTES", 0)  # else its first reading would serve all views
    monkeypatch.setattr(modality, "LOOKED_AT", 0)

    with pytest.raises(StoreMismatch, match=re.escape("sample '0020.png' has changed since")) as refused:
        dump_views(tmp_path / "store", 3, source=Changing())

    assert "Restore the data, or choose another `out`." in str(refused.value)
    assert is_unfinished(tmp_path / "store")
    assert 5 <= count_finished_shards(tmp_path / "store") < 12, "what came before it is kept"


def test_a_sample_that_changed_before_its_second_view_is_refused_when_the_dump_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        dump_views(tmp_path / "store", 2, on_progress=stop_at(67))

    with pytest.raises(StoreMismatch, match=r"sample '0007.png' of .* is not what the teacher saw"):
        dump_views(tmp_path / "store", 2, source=Pictures(black=frozenset({7})))
