"""Heads in recipes: of one student, or of all of a run."""

import re
from pathlib import Path

import pytest

from softlab.errors import InvalidOption
from softlab.labels.losses import KlLoss, ReverseKlLoss
from softlab.recipes.train import TrainRecipe
from softlab.student.heads.options import HeadOptions
from tests.recipes.demo import train

BOTH = ("head.kind.alpha=1.0", "head.size.weight=0.5", "head.size.loss.name=reverse_kl")


def recipe(*assignments: str) -> TrainRecipe:
    return train(Path("store"), Path("run"), *assignments)


def heads_of(found: TrainRecipe, name: str = "mlp") -> dict[str, HeadOptions]:
    return found.student[name].learn(found.options.learn).head


def test_heads_of_a_run_are_those_of_all_its_students() -> None:
    assert heads_of(recipe(*BOTH)) == {
        "kind": HeadOptions(alpha=1.0),
        "size": HeadOptions(weight=0.5, loss=ReverseKlLoss()),
    }


def test_a_students_own_heads_stand_in_their_place() -> None:
    found = recipe(*BOTH, "student.mlp.head.kind.loss.temperature=2.0", "student.mlp.head.kind.output=logits")

    assert heads_of(found) == {"kind": HeadOptions(output="logits", loss=KlLoss(temperature=2.0))}


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("student.mlp.head.kind.weight=-1", "[student.mlp.head.kind]: weight = -1"),
        ("student.mlp.head.kind.temperature=2", "unknown key student.mlp.head.kind.temperature"),
        ("valid_full=runs/full", "`valid_full`"),
        ("output=logits", "`output` is for students with one output, and these have heads."),
        ("classes.names=['a']", "[classes] is for students with one output, and these have heads."),
    ],
)
def test_what_heads_do_not_have_is_refused(assignment: str, expected: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(expected)):
        recipe(*BOTH, assignment)


def test_validation_stores_are_one_or_a_list() -> None:
    valid = "valid.path=data/fashion_mnist/test"

    assert recipe(valid, "valid_store=a.zarr").valid_store == "a.zarr"
    assert recipe(valid, "valid_store=['a.zarr', 'b.zarr']").valid_store == ("a.zarr", "b.zarr")
