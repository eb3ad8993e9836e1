import pickle
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from softlab.errors import OddLabels, StoreMismatch
from softlab.sources.known_classes import KnownClasses, class_relation, with_known_classes
from softlab.sources.source import Source, hard_targets
from softlab.sources.subset import first
from tests.teacher.dumping import Pictures

NAMES = ("ant", "bee", "cat", "dog", "été")


@dataclass
class Case:
    """Class names of a source, its targets, and what they are in the order of NAMES."""

    ours: Sequence[str]
    targets: Sequence[int]
    expected: Sequence[int]
    told: str
    names: tuple[str, ...] = field(default=NAMES)


def source_of(ours: Sequence[str] | None, targets: Sequence[int]) -> Source:
    return Pictures(
        count=len(targets), class_names=None if ours is None else tuple(ours), targets_N=np.array(targets, np.int64)
    )


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            Case(["ant", "cat", "dog", "été"], [0, 1, 2, 3], [0, 2, 3, 4], "4 of 5 there, 'bee' has no samples"),
            id="a class without a folder",
        ),
        pytest.param(
            Case(["dog", "ant"], [0, 1, -1], [3, 0, -1], "2 of 5 there, 'bee', 'cat', 'été' have no samples"),
            id="several, in another order, and an unknown target",
        ),
        pytest.param(Case(NAMES[::-1], [0, 4], [4, 0], "5 of 5 there, in another order"), id="another order"),
        pytest.param(
            Case(
                [unicodedata.normalize("NFD", name) for name in NAMES],
                [0, 4],
                [0, 4],
                "5 of 5 there, in another Unicode form",
            ),
            id="another Unicode form",
        ),
        pytest.param(
            Case(["N/A", *NAMES], [1, 5], [0, 4], "5 of 5 there, in another order"),
            id="an unknown class that has no samples",
        ),
    ],
)
def test_targets_are_mapped_by_class_name_and_one_line_says_so(case: Case) -> None:
    source = source_of(case.ours, case.targets)

    with pytest.warns(OddLabels) as told:
        known = with_known_classes(source, case.names, whose="runs/pets")

    targets_N = hard_targets(known)
    assert targets_N is not None
    assert targets_N.tolist() == list(case.expected)
    assert [str(each.message) for each in told] == [
        f"{source.name}: classes aligned by name with those of runs/pets: {case.told}"
    ]
    assert (known.class_names, list(known.keys), len(known)) == (case.names, list(source.keys), len(source))
    assert known.read(0).content_hash == source.read(0).content_hash


@pytest.mark.parametrize(
    ("ours", "names"),
    [(NAMES, NAMES), (None, NAMES), (("ant", "bee"), None), (("ash", "oak", "elm"), NAMES), (("ant", *"vwxyz"), NAMES)],
)
def test_the_same_classes_nameless_ones_and_others_stay_as_they_are(
    ours: tuple[str, ...] | None, names: tuple[str, ...] | None
) -> None:
    """One name in common doesn't make six classes those of a teacher."""
    source = source_of(ours, range(len(ours or NAMES)))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert with_known_classes(source, names, whose="runs/pets") is source


@pytest.mark.parametrize(
    ("ours", "names", "found"),
    [
        (
            ("ant", "bee", "dgo"),
            NAMES,
            "'dgo' is none of the 5 classes of runs/pets (ant, bee, cat, dog, été). Did",
        ),
        (("Ant", "Dog"), NAMES, "'Ant', 'Dog' are none of the 5 classes .* Did you mean ant"),
        (("ant", "bee", "cat", "dog", "fox"), NAMES, "'fox' is none of the 5 classes"),
        (("0", "1", "2", "3", "4"), NAMES, "'0', '1', '2' and 2 more are none of the 5 classes"),
        ((*NAMES, "fox"), NAMES, "'fox' is none of the 5 classes .* rename it"),
        (("crane", "hen"), ("crane", "hen", "crane"), "'crane' is the name of 2 classes of runs/pets"),
    ],
)
def test_names_that_are_not_known_are_refused_with_the_nearest(
    ours: tuple[str, ...], names: tuple[str, ...], found: str
) -> None:
    with pytest.raises(StoreMismatch, match=found.replace("(", r"\(").replace(")", r"\)")):
        with_known_classes(source_of(ours, range(len(ours))), names, whose="runs/pets")


def test_only_classes_with_samples_must_be_known() -> None:
    whole = source_of(("ant", "bee", "yak"), [0, 1, 2])

    assert class_relation(whole, NAMES) == "unclear"
    assert class_relation(first(whole, 2), NAMES) == "known"


@pytest.mark.filterwarnings("ignore::softlab.errors.OddLabels")
def test_it_goes_to_workers_and_says_what_it_is() -> None:
    known = with_known_classes(source_of(("dog",), [0, 0]), NAMES, whose="runs/pets")
    assert isinstance(known, KnownClasses)

    copy = pickle.loads(pickle.dumps(known))
    assert copy.targets["label"].tolist() == [3, 3]
    assert repr(known) == "KnownClasses(memory:pictures, 2 samples, 5 classes)"
