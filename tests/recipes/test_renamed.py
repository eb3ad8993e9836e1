"""Keys that recipes had before: each is refused with the key that took its place, and that key exists."""

from dataclasses import fields
from typing import Any

import pytest

from softlab.errors import InvalidOption
from softlab.recipes.building import load_recipe, recipe_from
from softlab.recipes.chain import ChainRecipe
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.evaluate import EvaluateRecipe
from softlab.recipes.options import option_fields, types_of
from softlab.recipes.renamed import RENAMED, renamed
from softlab.recipes.students import StudentModel
from softlab.recipes.teacher import TeacherRecipe
from softlab.recipes.train import TrainRecipe
from softlab.student.options import LearnOptions

KINDS: dict[str, type[Any]] = {"train": TrainRecipe, "dump": DumpRecipe, "evaluate": EvaluateRecipe}
"""By the section that a key was in: the recipe that it was of."""


def is_known(key: str, kind: type[Any]) -> bool:
    """As an option, or as a section."""
    known = [option.key for option in option_fields(kind)]
    return key in known or any(each.startswith(f"{key}.") for each in known)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_is_not_known_and_its_new_one_is(old: str, new: str) -> None:
    kind = KINDS[old.partition(".")[0]]

    assert not is_known(old, kind)
    assert is_known(new, kind)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_key_is_refused_with_its_new_one(old: str, new: str) -> None:
    with pytest.raises(InvalidOption, match=rf"unknown key .*{old} is now `{new}`\.$"):
        load_recipe(KINDS[old.partition(".")[0]], assignments=[f"{old}=1"])


def test_each_key_of_an_old_section_is_told() -> None:
    with pytest.raises(InvalidOption) as refused:
        recipe_from(TrainRecipe, {"train": {"epochs": 3, "alpha": 0.5, "prune": {"amount": 0.8}}}, where="old.toml")

    assert str(refused.value) == (
        "old.toml: unknown key train. train.epochs is now `run.epochs`; train.alpha is now `teachers.alpha`; "
        "train.prune is now `prune`."
    )


def test_what_a_student_had_of_its_own_is_told_with_its_name() -> None:
    own = {"temperature": 2.0, "learning_rate": 0.1, "seed": 3}
    student = {"small": {"model": "a:b", "train": own}}

    with pytest.raises(InvalidOption) as refused:
        recipe_from(TrainRecipe, {"student": student}, where="old.toml")

    assert str(refused.value) == (
        "old.toml: unknown key student.small.train. student.small.train.temperature is now "
        "`student.small.loss.temperature`; student.small.train.learning_rate is now "
        "`student.small.optimizer.learning_rate`; student.small.train.seed is now `student.small.seed`."
    )


OF_A_STUDENT = {field.name for field in fields(LearnOptions)}


@pytest.mark.parametrize(("name", "new"), [(old, new) for old, new in RENAMED.items() if old.startswith("train.")])
def test_an_old_key_of_a_student_is_its_own_or_the_runs(name: str, new: str) -> None:
    section = new.partition(".")[0]

    [(old, now)] = renamed(f"student.a.{name}", 1)

    assert old == f"student.a.{name}"
    if name == "train.seed":
        assert now == "student.a.seed"
    elif section in OF_A_STUDENT:
        assert now == f"student.a.{new}"
        assert section in types_of(StudentModel)
    else:
        assert now == new
        assert section not in types_of(StudentModel)


def test_train_teacher_is_not_told_of_keys_that_it_does_not_have() -> None:
    with pytest.raises(InvalidOption) as refused:
        recipe_from(TeacherRecipe, {"train": {"epochs": 3, "temperature": 2}}, where="old.toml")

    assert str(refused.value) == (
        "old.toml: unknown key train. train.epochs is now `run.epochs`; train.temperature is no option here."
    )


def test_what_stages_have_in_common_is_told_too() -> None:
    stage = {"command": "train-teacher", "out": "a", "teacher": {"model": "a:b"}, "source": {"path": "a"}}

    with pytest.raises(InvalidOption, match=r"unknown key common\.train\. train\.epochs is now `run\.epochs`\.$"):
        ChainRecipe.from_table({"common": {"train": {"epochs": 3}}, "stage": [stage]}, where="chain.toml")


def test_another_unknown_key_is_not_taken_for_an_old_one() -> None:
    assert renamed("run", {"epochs": 3}) == []
    assert renamed("train", {"epoch": 3}) == []
    assert renamed("student.a.loss.epochs", 3) == []
