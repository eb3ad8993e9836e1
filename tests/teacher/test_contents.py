"""A sample that changes while its views are dumped is found."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import StoreMismatch
from softlab.loading import batches
from softlab.sources.source import Sample
from softlab.store.folder import count_finished_shards, is_unfinished
from softlab.teacher.contents import REHASHED_ON_RESUME, Contents
from tests.teacher.augmenting import dump_views
from tests.teacher.dumping import Pictures, stop_at

SOURCE = Pictures(count=30)
HASHES = [SOURCE.read(number).content_hash for number in range(30)]


def learnt(source: Pictures = SOURCE) -> Contents:
    """After the samples of two shards."""
    contents = Contents(Path("store"), source)
    contents.learn(0, HASHES[:16])
    contents.learn(16, HASHES[16:])
    return contents


def test_the_hashes_are_those_of_all_samples_in_their_order() -> None:
    assert learnt().hashes() == HASHES


@given(start=st.integers(0, 29), count=st.integers(0, 30))
def test_the_same_samples_may_be_read_again_in_any_pieces(start: int, count: int) -> None:
    contents = learnt()

    contents.learn(start, HASHES[start : start + count])

    assert contents.hashes() == HASHES


@given(start=st.integers(0, 29), count=st.integers(1, 30), data=st.data())
def test_the_first_sample_that_is_different_is_named(start: int, count: int, data: st.DataObject) -> None:
    found = HASHES[start : start + count]
    places = data.draw(st.sets(st.integers(0, len(found) - 1), min_size=1))
    changed = [bytes(16) if place in places else content for place, content in enumerate(found)]

    with pytest.raises(StoreMismatch, match=f"store: sample '{start + min(places):04d}.png' has changed since"):
        learnt().learn(start, changed)


def test_what_is_not_known_yet_is_not_compared() -> None:
    contents = Contents(Path("store"), SOURCE)

    contents.learn(16, HASHES[16:])
    contents.check_some()
    contents.learn(0, HASHES[:16])

    assert contents.hashes() == HASHES


def test_a_few_samples_are_all_read_again(tmp_path: Path) -> None:
    assert len(SOURCE) <= REHASHED_ON_RESUME

    learnt().check_some()
    for number in (0, 15, 29):
        with pytest.raises(StoreMismatch, match=f"sample '{number:04d}.png' has changed since"):
            learnt(Pictures(count=30, black=frozenset({number}))).check_some()


def test_a_source_that_was_encoded_anew_is_found_among_many() -> None:
    count = 4 * REHASHED_ON_RESUME
    contents = Contents(Path("store"), Pictures(count=count, black=frozenset(range(count))))
    contents.learn(0, [Pictures().read(number).content_hash for number in range(count)])

    with pytest.raises(StoreMismatch, match="has changed since this dump was begun"):
        contents.check_some()


# In a dump.


@dataclass(frozen=True, kw_only=True)
class Changing(Pictures):
    """Picture 20 is another one whenever it is read again."""

    reads: list[int] = field(default_factory=list)

    def read(self, index: int) -> Sample:
        self.reads.append(index)
        return super().read(99 if self.reads.count(20) > 1 and index == 20 else index)


def test_a_sample_that_changes_between_two_of_its_views_is_refused_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "DECODED_BYTES", 0)  # else its first reading would serve all views

    with pytest.raises(StoreMismatch, match=re.escape("sample '0020.png' has changed since")) as refused:
        dump_views(tmp_path / "store", 3, source=Changing())

    assert "Restore the data, or choose another --out." in str(refused.value)
    assert is_unfinished(tmp_path / "store")
    assert count_finished_shards(tmp_path / "store") == 5, "what came before it is kept"


def test_a_sample_that_changed_before_its_second_view_is_refused_when_the_dump_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        dump_views(tmp_path / "store", 2, on_progress=stop_at(67))

    with pytest.raises(StoreMismatch, match=re.escape("sample '0007.png' has changed since")):
        dump_views(tmp_path / "store", 2, source=Pictures(black=frozenset({7})))
