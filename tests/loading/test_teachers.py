from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.teachers import check_same_rows, find_features, find_values
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.reader import Store, open_store
from tests.store.unit_stores import fill, make_unit_plan, write_units
from tests.teacher.augmenting import AUGMENT, MIXING, dump_views, open_uncached
from tests.teacher.dumping import NUM_CLASSES, Pictures, dump, make_options, make_teacher

SOURCE = Pictures(count=12)
DumpStore = Callable[..., Store]


@pytest.fixture
def make_store(tmp_path: Path) -> DumpStore:
    """A store of another teacher at each call, in a folder of its own."""

    def make(name: str, *, views: int | str = 1, augment: ViewRecipe | None = None, **changes: Any) -> Store:
        source = changes.pop("source", SOURCE)
        teacher = make_teacher(num_classes=changes.pop("num_classes", NUM_CLASSES), seed=len(list(tmp_path.iterdir())))
        options = make_options(**({"views": views, "k": 3} | changes))
        dump(tmp_path / name, options, teacher=teacher, source=source, augment=augment)
        return open_uncached(tmp_path / name)

    return make


# The same rows.


def test_other_teachers_of_the_same_views_of_the_same_samples_may_teach_together(make_store: DumpStore) -> None:
    """However much of what they say is stored, and in whatever form."""
    stores = [
        make_store("a", views=2, augment=AUGMENT),
        make_store("b", views=2, augment=AUGMENT, k=NUM_CLASSES, coding="float32", temperature=(2.0,)),
        make_store("c", views=2, augment=AUGMENT, format="parquet", shard_rows=5, pixel_digests="none"),
        make_store("d", views=2, augment=AUGMENT, source=replace(SOURCE, name="memory:a copy elsewhere")),
    ]

    check_same_rows(stores)


def test_one_store_has_its_own_rows(make_store: DumpStore) -> None:
    check_same_rows([make_store("a")])


NAMES = SOURCE.class_names or ()
DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "fewer classes": (
        {"num_classes": 7},
        "{second}: has 7 classes, but {first} has 20. Choose teachers over the same classes.",
    ),
    "classes in another order": (
        {"source": replace(SOURCE, class_names=NAMES[::-1])},
        "{second}: its class names, or their order, are not those of {first}. Dump both from sources with the same "
        "class names in the same order.",
    ),
    "classes without names": (
        {"source": replace(SOURCE, class_names=None)},
        "{second}: its class names, or their order, are not those of {first}. Dump both from sources with the same "
        "class names in the same order.",
    ),
    "fewer samples": (
        {"source": Pictures(count=11)},
        "{second}: its 11 samples are not the 12 of {first}. Dump both from the same `source.path`.",
    ),
    "a sample that differs": (
        {"source": Pictures(count=12, black=frozenset({11}))},
        "{second}: its 12 samples are not the 12 of {first}. Dump both from the same `source.path`.",
    ),
    "other transforms": (
        {"augment": ViewRecipe(transforms=("RandomHorizontalFlip()",), seed=5)},
        "{second}: its views, RandomHorizontalFlip() (seed 5), are not those of {first}, "
        "RandomCrop(size=[4, 6], padding=2), RandomHorizontalFlip() (seed 5). Dump both with the same [augment].",
    ),
    "another seed": (
        {"augment": replace(AUGMENT, seed=6)},
        "{second}: its views, RandomCrop(size=[4, 6], padding=2), RandomHorizontalFlip() (seed 6), are not those of "
        "{first}, RandomCrop(size=[4, 6], padding=2), RandomHorizontalFlip() (seed 5). Dump both with the same "
        "[augment].",
    ),
    "more views": (
        {"views": 3},
        "{second}: has 3 views, but {first} has 2. Add views to the smaller one with `softlab dump-teacher "
        "--views +N`.",
    ),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_stores_of_other_rows_are_refused_with_what_differs_and_what_to_do(
    make_store: DumpStore, difference: str
) -> None:
    changes, expected = DIFFERENCES[difference]
    same: dict[str, Any] = {"views": 2, "augment": AUGMENT}
    first, second = make_store("first", **same), make_store("second", **(same | changes))

    with pytest.raises(StoreMismatch) as caught:
        check_same_rows([first, second])
    assert str(caught.value) == expected.format(first=first.path, second=second.path)


def test_views_that_differ_only_in_what_they_are_mixed_with_are_refused(make_store: DumpStore) -> None:
    first = make_store("first", augment=MIXING)
    second = make_store("second", augment=replace(MIXING, mix_share=0.6))

    with pytest.raises(StoreMismatch, match=r"its views, .* are not those of .*first, .* Dump both with the same"):
        check_same_rows([first, second])


def test_a_third_store_is_compared_too(make_store: DumpStore) -> None:
    first, second = make_store("first"), make_store("second")
    third = make_store("third", source=Pictures(count=11))

    with pytest.raises(StoreMismatch, match=r"third: its 11 samples are not the 12 of .*first\."):
        check_same_rows([first, second, third])


def test_views_that_were_added_later_make_stores_alike(tmp_path: Path, make_store: DumpStore) -> None:
    first, _ = make_store("first", views=3, augment=AUGMENT), make_store("second", views=2, augment=AUGMENT)

    dump_views(tmp_path / "second", "+1", teacher=make_teacher(seed=1), source=SOURCE, k=3, pixel_digests="some")

    check_same_rows([first, open_uncached(tmp_path / "second")])


# Features.


def test_each_feature_is_found_in_the_store_that_holds_it(make_store: DumpStore) -> None:
    one = make_store("one", feature={"early": "conv:mean", "late": "relu:mean"})
    other, bare = make_store("other", feature={"wide": "relu"}), make_store("bare")

    found = find_features([bare, one, other], ["wide", "early"])

    assert list(found) == ["wide", "early"]
    assert found["wide"] is other
    assert found["early"] is one
    assert find_features([bare], []) == {}


def test_a_feature_that_no_store_holds_is_refused_with_those_that_they_do(make_store: DumpStore) -> None:
    one, other = make_store("one", feature={"late": "relu"}), make_store("other", feature={"early": "conv"})

    with pytest.raises(InvalidOption) as caught:
        find_features([one, other], ["early", "middle"])
    assert str(caught.value) == (
        "feature 'middle': no store holds it (they hold: early, late). Dump it as `dump.feature.middle`, or "
        "leave it out."
    )


def test_a_feature_is_refused_where_no_store_holds_any(make_store: DumpStore) -> None:
    with pytest.raises(InvalidOption, match=r"feature 'late': no store holds it \(they hold: none\)\."):
        find_features([make_store("bare")], ["late"])


def test_a_feature_that_two_stores_hold_is_refused_with_their_paths(make_store: DumpStore) -> None:
    one, other = make_store("one", feature={"late": "relu"}), make_store("other", feature={"late": "conv"})

    with pytest.raises(InvalidOption) as caught:
        find_features([one, make_store("bare"), other], ["late"])
    assert str(caught.value) == (
        f"feature 'late': {one.path} and {other.path} hold one of this name. Dump them with another name in each, or "
        f"leave it out."
    )


def test_values_with_a_row_for_each_unit_are_not_compared_sample_by_sample(tmp_path: Path) -> None:
    rows_N = [2, 0, 3]
    write_units(tmp_path / "store", fill(make_unit_plan(rows_N), rows_N))
    store = open_store(tmp_path / "store")

    assert find_values([store], "pooled") == {"pooled": store}
    with pytest.raises(StoreMismatch, match=r"its output states has a row for each unit .* Dump it pooled, as"):
        find_values([store], "states")
