"""A student can't tell a pulled part from the whole store."""

from pathlib import Path

import numpy as np
import pytest

from softlab.errors import InvalidOption, StoreMismatch
from softlab.indices import StoreIndex
from softlab.keys import read_keys
from softlab.loading.teachers import check_same_rows
from softlab.loading.view_check import check_views, store_replay
from softlab.modalities.images.modality import MODALITY
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sources.source import Source
from softlab.sources.subset import with_keys
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import dump_teacher
from tests.sharing.pulling import write_keys
from tests.student.fashion import same_weights
from tests.student.pictures import make_store, make_student, pictures, train
from tests.teacher.augmenting import AUGMENT
from tests.teacher.dumping import make_options, make_teacher

SOME = [1, 2, 3, 5, 8, 9, 10, 13, 14, 15, 17, 20, 21, 23]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three views of pictures, the digests of all of their pixels, and the keys of some of them."""
    folder = tmp_path_factory.mktemp("pulled")
    make_store(folder / "whole", augment=AUGMENT, views=3, pixel_digests="all", feature={"mean": "conv:mean"})
    write_keys(folder / "keys.txt", [pictures().keys[number] for number in SOME])
    return folder


def pull_part(folder: Path, out: Path, **options: object) -> Store:
    pull(folder / "whole", out, PullOptions(**options))  # type: ignore[arg-type]
    return open_store(out)


def some_pictures(folder: Path) -> Source:
    """As `source.keys` gives them."""
    return with_keys(pictures(), read_keys(folder / "keys.txt"))


def assert_views_are_those_that_the_teacher_saw(store: Store, source: Source) -> None:
    """Every one of them, pixel by pixel."""
    store_N = StoreIndex(np.arange(store.num_samples))
    compared = sum(len(store.read_pixel_digests(view).store_D) for view in range(store.num_views))
    assert compared == store.num_views * store.num_samples
    check_views(source, store, store_N, store_replay(store, store_N, MODALITY), MODALITY, verify="all")


@pytest.mark.parametrize("views", ["0", "1", "1-2", "2"])
def test_the_views_of_a_part_are_those_that_the_teacher_saw(folder: Path, tmp_path: Path, views: str) -> None:
    part = pull_part(folder, tmp_path / "part", views=views)
    of_samples = pull_part(folder, tmp_path / "of samples", views=views, samples=folder / "keys.txt")

    assert_views_are_those_that_the_teacher_saw(part, pictures())
    assert_views_are_those_that_the_teacher_saw(of_samples, some_pictures(folder))


def test_a_student_learns_from_chosen_samples_what_it_learns_on_them_from_the_whole(
    folder: Path, tmp_path: Path
) -> None:
    part, whole = pull_part(folder, tmp_path / "part", samples=folder / "keys.txt"), open_store(folder / "whole")
    students = make_student(), make_student()

    train(students[0], part, source=some_pictures(folder), verify_inputs="all")  # type: ignore[arg-type]
    train(students[1], whole, source=some_pictures(folder), subset=True)  # type: ignore[arg-type]

    assert same_weights(*students)
    assert not same_weights(students[0], make_student())


def test_a_student_learns_from_pulled_views_what_it_learns_from_a_dump_of_them(folder: Path, tmp_path: Path) -> None:
    part = pull_part(folder, tmp_path / "part", views="0-1", features=())
    dumped = make_store(tmp_path / "dumped", augment=AUGMENT, views=2, pixel_digests="all")
    students = make_student(), make_student()

    train(students[0], part, verify_inputs="all")
    train(students[1], dumped)

    assert same_weights(*students)


def test_two_parts_with_other_views_do_not_teach_together(folder: Path, tmp_path: Path) -> None:
    one, other = (pull_part(folder, tmp_path / views, views=views) for views in ("0-1", "1-2"))

    with pytest.raises(StoreMismatch, match="Pull both with the same --views"):
        check_same_rows([one, other])


def test_chosen_samples_do_not_teach_together_with_a_dump_of_them_alone(folder: Path, tmp_path: Path) -> None:
    """Which counts them otherwise, so that its views are others."""
    part = pull_part(folder, tmp_path / "part", samples=folder / "keys.txt")
    dump_teacher(
        make_teacher(num_classes=5),
        some_pictures(folder),
        tmp_path / "dumped",
        make_options(views=3, coding="float32"),
        augment=AUGMENT,
    )

    with pytest.raises(StoreMismatch, match="or dump one with the other as `like`"):
        check_same_rows([part, open_store(tmp_path / "dumped")])


@pytest.mark.parametrize("options", [{"views": "1-2"}, {"samples": True}])
def test_no_views_are_added_to_a_part(folder: Path, tmp_path: Path, options: dict[str, object]) -> None:
    if "samples" in options:
        options = {"samples": folder / "keys.txt"}
    pull_part(folder, tmp_path / "part", **options)
    teacher = make_teacher(num_classes=5)

    with pytest.raises(InvalidOption, match=r"was pulled without some of its .*Add them to the whole store"):
        dump_teacher(teacher, pictures(), tmp_path / "part", make_options(views="+1"), augment=AUGMENT)
