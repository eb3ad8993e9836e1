"""A sample that changes while its views are dumped is found."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import softlab
from softlab.errors import StoreMismatch
from softlab.loading import batches
from softlab.sources.source import Sample
from softlab.store.folder import count_finished_shards, is_unfinished
from softlab.teacher.job import REHASHED_ON_RESUME
from tests.teacher.augmenting import dump_views
from tests.teacher.dumping import Pictures, make_options, make_teacher, stop_at

SOURCE = Pictures(count=30)
HASHES = [SOURCE.read(number).content_hash for number in range(30)]


def planned(out: Path, source: Pictures = SOURCE) -> softlab.DumpJob:
    return softlab.plan_dump(make_teacher(), source, out, make_options())


def test_a_few_samples_are_all_read_again(tmp_path: Path) -> None:
    assert len(SOURCE) <= REHASHED_ON_RESUME

    planned(tmp_path / "same").check_unchanged(HASHES)
    for number in (0, 15, 29):
        changed = planned(tmp_path / str(number), Pictures(count=30, black=frozenset({number})))
        with pytest.raises(StoreMismatch, match=f"sample '{number:04d}.png' has changed since"):
            changed.check_unchanged(HASHES)


def test_what_is_not_known_yet_is_not_compared(tmp_path: Path) -> None:
    changed = planned(tmp_path / "store", Pictures(count=30, black=frozenset({3})))

    changed.check_unchanged([bytes(16)] * 16 + HASHES[16:])


def test_a_source_that_was_encoded_anew_is_found_among_many(tmp_path: Path) -> None:
    count = 4 * REHASHED_ON_RESUME
    before = Pictures(count=count)
    changed = planned(tmp_path / "store", replace(before, black=frozenset(range(count))))

    with pytest.raises(StoreMismatch, match="has changed since this dump was begun"):
        changed.check_unchanged([before.read(number).content_hash for number in range(count)])


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
    monkeypatch.setattr(batches, "DECODED_BYTES", 0)  # else its first reading would serve all views

    with pytest.raises(StoreMismatch, match=re.escape("sample '0020.png' has changed since")) as refused:
        dump_views(tmp_path / "store", 3, source=Changing())

    assert "Restore the data, or choose another --out." in str(refused.value)
    assert is_unfinished(tmp_path / "store")
    assert 5 <= count_finished_shards(tmp_path / "store") < 12, "what came before it is kept"


def test_a_sample_that_changed_before_its_second_view_is_refused_when_the_dump_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        dump_views(tmp_path / "store", 2, on_progress=stop_at(67))

    with pytest.raises(StoreMismatch, match=re.escape("sample '0007.png' has changed since")):
        dump_views(tmp_path / "store", 2, source=Pictures(black=frozenset({7})))
