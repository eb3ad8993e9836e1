"""Another teacher over the samples and views of a store that is there already."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from softlab.errors import InvalidOption, StoreMismatch
from softlab.indices import StoreIndex
from softlab.keys import Keys
from softlab.loading.teachers import check_same_rows
from softlab.loading.view_check import check_views, store_replay
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sources.source import Sample, Source
from softlab.sources.subset import with_keys
from softlab.store.folder import count_finished_shards
from softlab.store.reader import Store, open_store
from softlab.store.verify import verify_store
from softlab.student.train import train_students
from softlab.teacher.dump import DumpSummary, dump_teacher
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.planning import as_teacher
from softlab.teacher.survey import survey_teacher
from tests.student.pictures import make_options as make_train_options
from tests.student.pictures import make_student
from tests.teacher.augmenting import AUGMENT, MIXING, dump_views, open_uncached
from tests.teacher.dumping import Pictures, make_options, make_teacher, stop_at

SOME = [3, 7, 8, 20, 21, 22, 40, 49]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two views of 50 pictures in eight shards."""
    out = tmp_path_factory.mktemp("first") / "store"
    dump_views(out, 2)
    return open_uncached(out)


def dump_like(out: Path, like: Store, *, source: Source | None = None, **options: Any) -> DumpSummary:
    """By another teacher."""
    run = {name: options.pop(name) for name in ("augment", "on_progress") if name in options}
    return dump_teacher(make_teacher(seed=1), source or Pictures(), out, make_options(**options), like=like, **run)


def assert_sees_the_same(second: Store, first: Store, source: Source) -> None:
    check_same_rows([first, second])
    store_N = StoreIndex(np.arange(second.num_samples))
    check_views(source, second, store_N, store_replay(first, store_N, MODALITY), MODALITY, verify="all")
    for view in range(first.num_views):
        ours, theirs = second.read_pixel_digests(view), first.read_pixel_digests(view)
        assert ours.digests_D.tolist() == theirs.digests_D.tolist() != []


@pytest.mark.parametrize("augment", [AUGMENT, MIXING])
def test_another_teacher_sees_the_samples_and_views_of_the_first(tmp_path: Path, augment: ViewRecipe) -> None:
    dump_views(tmp_path / "first", 2, augment=augment)

    dump_like(tmp_path / "second", open_store(tmp_path / "first"), k=7)

    first, second = open_uncached(tmp_path / "first"), open_uncached(tmp_path / "second")
    assert_sees_the_same(second, first, Pictures())
    assert second.manifest.views == first.manifest.views
    assert second.manifest.source_fingerprint == first.manifest.source_fingerprint
    assert second.manifest.teacher.weights_fingerprint != first.manifest.teacher.weights_fingerprint
    assert second.k == 7
    assert second.manifest.parent is None


@pytest.mark.filterwarnings("ignore::softlab.errors.LittleMass")
def test_both_teach_together(tmp_path: Path, first: Store) -> None:
    dump_like(tmp_path / "second", first)
    stores = [open_store(str(first.path)), open_store(tmp_path / "second")]
    options = make_train_options(verify_inputs="all", alpha=1.0)

    (result,) = train_students({"small": make_student(num_classes=20)}, Pictures(), stores, options)

    assert result.error is None
    assert result.train_loss is not None


def test_a_part_that_was_pulled_is_shared_too(tmp_path: Path, first: Store) -> None:
    (tmp_path / "keys.txt").write_text("\n".join(Pictures().keys[number] for number in SOME))
    pull(str(first.path), tmp_path / "part", PullOptions(views="1", samples=tmp_path / "keys.txt"))
    part, source = open_store(tmp_path / "part"), with_keys(Pictures(), Keys(Pictures().keys[n] for n in SOME))

    dump_like(tmp_path / "second", part, source=source)

    second = open_uncached(tmp_path / "second")
    store_N = second.read_samples().recipe_N
    assert_sees_the_same(second, part, source)
    assert store_N is not None
    assert store_N.tolist() == SOME
    assert verify_store(tmp_path / "second").is_intact


def test_an_interrupted_dump_goes_on_with_the_same_views(tmp_path: Path, first: Store) -> None:
    dump_like(tmp_path / "undisturbed", first)
    with pytest.raises(KeyboardInterrupt, match="Run the same command again"):
        dump_like(tmp_path / "second", first, on_progress=stop_at(40))
    assert 0 < count_finished_shards(tmp_path / "second") < 8

    summary = dump_like(tmp_path / "second", first)
    again = dump_like(tmp_path / "second", first)

    assert again.rows_computed == 0 < summary.rows_computed < 100
    assert summary.digest == again.digest == open_store(tmp_path / "undisturbed").digest


def test_a_survey_looks_at_the_same_views(first: Store) -> None:
    survey = survey_teacher(as_teacher(make_teacher(seed=1)), Pictures(), make_options(), like=first)

    assert survey.num_views == 2


# What is refused, before anything is written.


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"augment": ViewRecipe()}, "[augment]"),
        ({"views": 2}, "`dump.views`"),
        ({"views": "+1"}, "`dump.views`"),
        ({"pixel_digests": "all"}, "`dump.pixel_digests`"),
    ],
)
def test_views_are_not_said_twice(tmp_path: Path, first: Store, options: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        dump_like(tmp_path / "second", first, **options)

    assert str(refused.value).endswith(f"Leave {name} out.")
    assert not (tmp_path / "second").exists()


@dataclass(frozen=True, kw_only=True)
class Reversed(Pictures):
    """The same pictures in another order."""

    @property
    def keys(self) -> list[str]:
        return list(Pictures(count=self.count).keys)[::-1]


@pytest.mark.parametrize("source", [Pictures(count=49), Reversed(), Pictures(black=frozenset(range(50)))])
def test_other_samples_are_refused(tmp_path: Path, first: Store, source: Source) -> None:
    with pytest.raises(StoreMismatch, match=r"Point `source\.path` at the data the teacher saw"):
        dump_like(tmp_path / "second", first, source=source)

    assert not (tmp_path / "second").exists()


def test_views_that_would_be_others_here_are_refused(tmp_path: Path, first: Store) -> None:
    other = ViewRecipe(transforms=AUGMENT.transforms, seed=AUGMENT.seed + 1)
    dump_views(tmp_path / "other", 2, augment=other)
    disguised = open_uncached(tmp_path / "other")
    disguised.manifest = msgspec.structs.replace(disguised.manifest, views=first.manifest.views)

    with pytest.raises(StoreMismatch, match=r"isn't what the teacher saw.*Dump with those versions"):
        dump_like(tmp_path / "second", disguised)

    assert not (tmp_path / "second").exists()


@dataclass(frozen=True, kw_only=True)
class ChangedMeanwhile(Pictures):
    """The last picture is black once the first batch has been computed."""

    batches: list[DumpProgress] = field(default_factory=list)

    def read(self, index: int) -> Sample:
        black = frozenset([self.count - 1] if self.batches else [])
        return Pictures(count=self.count, black=black).read(index)


def test_a_sample_that_was_another_one_for_the_first_teacher_stops_the_dump(tmp_path: Path) -> None:
    """And costs nothing that was finished before."""
    dump_views(tmp_path / "first", 1, pixel_digests="none")
    first = open_store(tmp_path / "first")

    source = ChangedMeanwhile()

    with pytest.raises(
        StoreMismatch, match=r"sample '0049.png' has changed .* since the store was made that it is to be"
    ):
        dump_like(tmp_path / "second", first, source=source, on_progress=source.batches.append)

    assert count_finished_shards(tmp_path / "second") == 3
    summary = dump_like(tmp_path / "second", first)
    assert summary.rows_computed == 2
    check_same_rows([first, open_store(tmp_path / "second")])
