"""Heads that can't be learnt from what a run is given: the message names the head and what to do."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, ModelError, StoreMismatch
from softlab.labels.losses.values import CosineLoss, VectorMseLoss
from softlab.recipes.opening import choose_outputs
from softlab.store.reader import Store, open_store
from softlab.student.heads.options import HeadOptions
from softlab.student.options import Student
from softlab.student.robust_options import RobustOptions
from softlab.student.search import SearchOptions, search
from softlab.student.train import train_students
from softlab.student.validation import Validation
from tests.student.heads.tasks import Headed, Tasks, dump_both, dump_one, learn_of, student
from tests.student.pictures import make_options

SPECIES = {"species": HeadOptions(alpha=1.0)}
BOTH = {**SPECIES, "colour": HeadOptions(alpha=1.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refused")
    dump_both(folder / "both")
    dump_one(folder / "species", "species")
    dump_one(folder / "other", "species", count=20)
    return folder


@pytest.fixture
def both(folder: Path) -> Store:
    return open_store(folder / "both")


@pytest.fixture
def species(folder: Path) -> Store:
    return open_store(folder / "species")


def refuse(
    expected: str,
    students: Student | dict[str, Student],
    *stores: Store,
    error: type[Exception] = InvalidOption,
    valid: Validation | None = None,
    source: Any = None,
    **options: Any,
) -> None:
    given = {"small": students} if isinstance(students, Student) else students
    with pytest.raises(error, match=re.escape(expected)):
        train_students(given, source or Tasks(), stores, make_options(**options), valid=valid)


def test_students_with_several_heads_are_not_attacked(both: Store) -> None:
    learn = replace(learn_of(BOTH), robust=RobustOptions())

    refuse(
        "student small: [robust] is for students with one output, and this one has several heads",
        Student(module=Headed(), learn=learn),
        both,
    )


def test_an_output_that_only_one_of_two_teachers_has_is_named_with_its_store(both: Store, species: Store) -> None:
    expected = (
        f"{species.name}: has no output 'colour' of kind classes (it has: species), but {both.name} has. Teachers are "
        f"combined over one output: say one that all of them hold as `output`, leave that store out, or learn colour "
        f"with a head of its own, as `student.NAME.head.colour`."
    )

    with pytest.raises(InvalidOption, match=re.escape(expected)):
        choose_outputs([both, species], "colour")

    assert [store.labels.name for store in choose_outputs([both, species], "species")] == ["species", "species"]


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ({"specis": HeadOptions(alpha=1.0)}, "head specis: there is no stored output 'specis' ("),
        ({"specis": HeadOptions(alpha=1.0)}, "Did you mean species? Say which one it learns, as `head.specis.output ="),
        ({"vector": HeadOptions(alpha=1.0)}, "head vector: "),
        ({"vector": HeadOptions(alpha=1.0)}, "students learn it with `loss.name = cosine` and `loss.output = vector`"),
        ({"colour": HeadOptions(loss=CosineLoss())}, "holds no output of values of this name (values: vector)"),
        ({"species": HeadOptions(store="elsewhere")}, "is elsewhere. Say `head.species.store` as `store` has it"),
        ({"species": HeadOptions(target="genus")}, "has the hard targets species, colour. "),
        ({"species": HeadOptions(weight=0.0)}, "student small: the weight of each of its heads is 0."),
        ({"species": HeadOptions(loss=VectorMseLoss(), alpha=0.5, output="vector")}, "head species: loss.name ="),
    ],
)
def test_a_head_that_no_store_can_teach_is_refused(both: Store, heads: dict[str, HeadOptions], expected: str) -> None:
    refuse(expected, student(heads), both)


def test_an_output_that_two_stores_hold_needs_the_name_of_one(both: Store, species: Store) -> None:
    expected = f"{both.name} and {species.name} each hold an output 'species'. Say which one it learns, as"

    refuse(expected, student(BOTH), both, species)


def test_a_store_that_teaches_no_head_is_refused(both: Store, species: Store) -> None:
    heads = {name: HeadOptions(alpha=1.0, store=both.name) for name in BOTH}

    refuse(f"{species.name}: no head learns one of its outputs (species).", student(heads), both, species)


def test_stores_of_other_samples_are_refused(folder: Path, both: Store) -> None:
    heads = {"species": HeadOptions(alpha=1.0, store="other"), "colour": HeadOptions(alpha=1.0)}

    refuse("its 20 samples are not the 24", student(heads), both, open_store(folder / "other"), error=StoreMismatch)


def test_a_head_without_hard_targets_is_refused_where_it_is_to_learn_some(both: Store) -> None:
    heads = {"species": HeadOptions(alpha=1.0), "colour": HeadOptions(alpha=0.5)}

    class OneTarget(Tasks):
        @property
        def targets(self) -> Any:
            return {"species": super().targets["species"]}

    expected = "student small: head colour: alpha below 1 adds hard targets, and memory:pictures has the hard targets"
    refuse(expected, student(heads), both, source=OneTarget())


def test_a_model_without_an_output_of_the_heads_name_is_refused(folder: Path, both: Store) -> None:
    class Renamed(Headed):
        def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
            return {"colour": super().forward(images_BCHW)["colour"], "specie": torch.zeros(len(images_BCHW), 5)}

    given = Student(module=Renamed(), learn=learn_of(BOTH))

    expected = (
        "its model returns the outputs colour [8, 3], specie [8, 5], and none for the head 'species'. Did you mean"
    )
    refuse(expected, given, both, error=ModelError)


def test_a_head_of_other_classes_than_its_teacher_is_refused(both: Store) -> None:
    refuse("head colour: ", student({"colour": HeadOptions(alpha=1.0, output="species")}), both, error=StoreMismatch)


def test_a_head_with_fewer_outputs_than_hard_targets_is_refused(both: Store) -> None:
    heads = {"species": HeadOptions(alpha=1.0), "vector": HeadOptions(alpha=0.0, output="species", target="species")}

    class Narrow(Headed):
        def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
            given = super().forward(images_BCHW)
            return {**given, "vector": given["vector"][:, :2]}

    given = Student(module=Narrow(), learn=learn_of(heads))

    refuse("student small: head vector has 2 outputs, but", given, both, error=StoreMismatch)


def test_a_head_with_a_row_for_each_position_is_refused(both: Store) -> None:
    class Dense(Headed):
        def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
            given = super().forward(images_BCHW)
            return {name: each[:, None].repeat(1, 2, 1) for name, each in given.items()}

    given = Student(module=Dense(), learn=learn_of(BOTH))

    refuse("a row for each position, and a head learns one row a sample", given, both, error=ModelError)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (SPECIES, "their heads are species, colour and species, but all students"),
        ({}, "their heads are species, colour and none, but all students"),
        ({**SPECIES, "colour": HeadOptions(target="species")}, "with the same output, store and target."),
    ],
)
def test_students_with_other_heads_are_refused(both: Store, other: dict[str, HeadOptions], expected: str) -> None:
    refuse(
        f"students one and two: {expected}" if "their" in expected else expected,
        {"one": student(BOTH), "two": student(other)},
        both,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"new_classes": True}, "distil.new_classes: students with several heads"),
        ({"keep": "max_prob > 0.5"}, "distil.keep: students with several heads"),
        ({"teacher_weight": (1.0,)}, "teachers.weight: each head learns from one store."),
        ({"best_by": "accuracy"}, "run.best_by = accuracy: names no head, and each head is measured by itself."),
        ({"best_by": "genus/accuracy"}, "there is no head 'genus' (heads: species, colour)"),
        ({"best_by": "colour/teacher_mse"}, "head colour: run.best_by = teacher_mse: teacher_mse can't be"),
        ({"best_by": "colour/acuracy"}, "run.best_by = colour/acuracy: no such metric. Did you mean accuracy"),
    ],
)
def test_options_that_heads_do_not_have_are_refused(both: Store, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(expected)):
        train_students(
            {"small": student(BOTH)}, Tasks(), [both], make_options(**options), valid=Validation(source=Tasks())
        )


def test_heads_without_a_store_are_refused() -> None:
    refuse("head: there is no store to learn from. Give `store`, or leave the heads out.", student(SPECIES))


def test_a_head_in_best_by_of_students_with_one_output_is_refused(species: Store) -> None:
    class OneOutput(Headed):
        def forward(self, images_BCHW: Tensor) -> Any:
            return super().forward(images_BCHW)["species"]

    class OneTarget(Tasks):
        @property
        def targets(self) -> Any:
            return {"species": super().targets["species"]}

    source, alone = OneTarget(), Student(module=OneOutput(), learn=learn_of({}))

    refuse(
        "run.best_by = species/accuracy: the students have no heads, each gives one output. Leave out `species/`.",
        alone,
        species,
        valid=Validation(source=source),
        source=source,
        best_by="species/accuracy",
    )


def test_a_validation_store_of_no_heads_teacher_is_refused(both: Store, species: Store) -> None:
    expected = f"{species.name}: holds no output of a teacher that a head learns from ({both.name})"

    refuse(expected, student(BOTH), both, valid=Validation(source=Tasks(), store=species), error=StoreMismatch)


def test_several_validation_stores_of_students_with_one_output_are_refused(both: Store, species: Store) -> None:
    valid = Validation(source=Tasks(), store=species, others=(both,))
    alone = Student(module=nn.Flatten(), learn=learn_of({}))

    class OneTarget(Tasks):
        @property
        def targets(self) -> Any:
            return {"species": super().targets["species"]}

    refuse(
        "valid_store: students of one output are measured against one", alone, species, valid=valid, source=OneTarget()
    )


def test_a_search_of_a_student_with_heads_is_refused(both: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="head: a search tries how one output of a student learns"):
        search(
            Headed,
            Tasks(),
            [both],
            make_options(head=BOTH),
            SearchOptions(trials=1),
            valid=Validation(source=Tasks()),
            out=tmp_path,
        )


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"weight": -1.0}, "weight = -1.0"), ({"weight": float("nan")}, "weight = nan"), ({"alpha": 2.0}, "alpha = 2.0")],
)
def test_values_that_no_head_can_have_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(expected)):
        HeadOptions(**options)


def test_a_name_that_a_metric_could_not_have_is_refused() -> None:
    with pytest.raises(InvalidOption, match="head = 'a/b': expected names of 1 to 64"):
        learn_of({"a/b": HeadOptions()})
