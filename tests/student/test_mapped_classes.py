"""Students whose classes are some of their teachers', in another order, or several as one."""

# Shape letters: N samples, S classes of the students.

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption, OddLabels, StoreMismatch
from softlab.labels.class_map import ClassesOptions
from softlab.loading.sample_check import with_stored_classes
from softlab.store.mapped import MappedStore, map_stores
from softlab.store.reader import Store
from softlab.student.train import train_students
from tests.student.pictures import (
    CLASS_NAMES,
    NUM_PICTURES,
    make_options,
    make_store,
    make_student,
    pictures,
    train,
)
from tests.teacher.dumping import images_of, make_teacher

ALL = list(range(NUM_PICTURES))
SOME = ClassesOptions(names=("dog", "ant", "cat"))
MERGED = ClassesOptions(merged={"insect": ("ant", "bee"), "pet": ("cat", "dog")})
ONE_STEP: dict[str, Any] = {
    "epochs": 1,
    "batch_size": NUM_PICTURES,
    "alpha": 1.0,
    "loss": "kl",
    "optimizer": "sgd",
    "learning_rate": 0.01,
}


def logits_of_the_teacher() -> Tensor:
    with torch.no_grad():
        logits_NC: Tensor = make_teacher(num_classes=len(CLASS_NAMES), seed=0).eval()(images_of(pictures(), ALL))
    return logits_NC.double()


def logits_of_the_student(num_classes: int) -> Tensor:
    with torch.no_grad():
        logits_NS: Tensor = make_student(num_classes=num_classes).train()(images_of(pictures(), ALL))
    return logits_NS.double()


@pytest.mark.parametrize(
    ("classes", "groups"), [(SOME, [[3], [0], [2]]), (MERGED, [[0, 1], [2, 3]])], ids=["some", "merged"]
)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_that_of_the_teacher_over_the_students_classes(
    first: Store, classes: ClassesOptions, groups: list[list[int]], temperature: float
) -> None:
    (result,) = train(
        make_student(num_classes=len(groups)), map_stores([first], classes), **ONE_STEP, temperature=temperature
    )

    p_NC = (logits_of_the_teacher() / temperature).softmax(dim=1)
    p_NS = torch.stack([p_NC[:, group].sum(dim=1) for group in groups], dim=1)
    p_NS = p_NS / p_NS.sum(dim=1, keepdim=True)
    log_q_NS = (logits_of_the_student(len(groups)) / temperature).log_softmax(dim=1)
    expected = temperature**2 * functional.kl_div(log_q_NS, p_NS, reduction="batchmean")
    assert result.train_loss == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("classes", "lookup"),
    [(SOME, [1, -1, 2, 0, -1]), (MERGED, [0, 0, 1, 1, -1]), (ClassesOptions(skip_first=1), [-1, 0, 1, 2, 3])],
    ids=["some", "merged", "without the first"],
)
def test_hard_targets_go_with_the_teachers_classes(first: Store, classes: ClassesOptions, lookup: list[int]) -> None:
    (store,) = map_stores([first], classes)

    source = with_stored_classes(pictures(), store)

    assert source.targets["label"].tolist() == [lookup[target] for target in pictures().targets_N.tolist()]  # type: ignore[union-attr]
    assert source.class_names == store.class_names


def test_a_source_with_the_students_names_counts_as_they_do(first: Store) -> None:
    source = replace(pictures(class_names=("dog", "ant", "cat")), targets_N=np.arange(NUM_PICTURES) % 3)
    (store,) = map_stores([first], SOME)

    assert with_stored_classes(source, store).targets["label"].tolist() == [n % 3 for n in ALL]


@pytest.mark.filterwarnings("ignore:.*classes aligned by name:softlab.errors.OddLabels")
def test_students_are_measured_over_their_own_classes(first: Store) -> None:
    (result,) = train(make_student(num_classes=3), map_stores([first], SOME), valid=True)

    assert result.last is not None
    assert 0 <= result.last.values["accuracy"] <= 1


@pytest.mark.filterwarnings("ignore:.*classes aligned by name:softlab.errors.OddLabels")
def test_a_validation_store_is_over_the_same_classes(first: Store) -> None:
    (store,) = map_stores([first], SOME)
    student = make_student(num_classes=3)

    (result,) = train(student, store, valid=store)

    with torch.no_grad():
        log_q_NS = student.eval()(images_of(pictures(), ALL)).double().log_softmax(dim=1)
    p_NS = logits_of_the_teacher()[:, [3, 0, 2]].softmax(dim=1)
    assert result.last is not None
    expected = functional.kl_div(log_q_NS, p_NS, reduction="batchmean").item()
    assert result.last.values["teacher_kl"] == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_teachers_over_different_classes_teach_together(first: Store, tmp_path: Path) -> None:
    """The second one has three classes, one of them under another name."""
    other = make_store(tmp_path / "other", seed=5, num_classes=3, source=pictures(class_names=("hound", "ant", "cat")))
    classes = ClassesOptions(merged={"dog": ("dog", "hound")}, names=("ant", "cat"))

    (result,) = train(make_student(num_classes=3), map_stores([first, other], classes), **ONE_STEP, temperature=1.0)

    with torch.no_grad():
        others_NS = make_teacher(num_classes=3, seed=5).eval()(images_of(pictures(), ALL)).double()
    first_NS = logits_of_the_teacher()[:, [0, 2, 3]].softmax(dim=1)
    p_NS = (first_NS + others_NS[:, [1, 2, 0]].softmax(dim=1)) / 2
    log_q_NS = logits_of_the_student(3).log_softmax(dim=1)
    expected = functional.kl_div(log_q_NS, p_NS, reduction="batchmean").item()
    assert result.train_loss == pytest.approx(expected, rel=1e-4)


def test_samples_of_the_students_classes_alone_can_be_kept(first: Store) -> None:
    (store,) = map_stores([first], SOME)

    (result,) = train(make_student(num_classes=3), store, keep="labelled", batch_size=4)

    assert result.error is None


def test_what_is_left_out_is_said_and_written_down(first: Store, tmp_path: Path) -> None:
    told: list[str] = []

    train_students(
        {"small": make_student(num_classes=3)},
        pictures(),
        map_stores([first], SOME),
        make_options(temperature=1.0),
        out=tmp_path / "run",
        on_start=told.extend,
    )

    left_out = logits_of_the_teacher().softmax(dim=1)[:, [1, 4]].sum(dim=1).mean().item()
    (line,) = [line for line in told if "classes of students" in line]
    assert f"3 classes of students, from 5 of the teacher, 2 left out, with {left_out:.3f} of its probability" in line
    assert json.loads((tmp_path / "run" / "run.json").read_text())["classes"] == [[[3], [0], [2]]]


def test_a_mapped_store_goes_to_other_processes(first: Store) -> None:
    (store,) = map_stores([first], MERGED)

    copy = pickle.loads(pickle.dumps(store))

    assert isinstance(copy, MappedStore)
    assert copy.read([3, 1]).logits_BK.equal(store.read([3, 1]).logits_BK)
    assert (copy.num_classes, copy.class_names) == (2, ("insect", "pet"))


@pytest.mark.parametrize(
    ("classes", "k", "options", "message"),
    [
        (MERGED, 5, {"temperature": 4.0, "temperature_end": 1.0}, "classes are merged.* train at 1, 4. Give all of"),
        (SOME, 3, {"temperature": 4.0, "temperature_end": 1.0}, "3 of its 5 are kept.* are right at one temperature"),
        (SOME, 3, {"loss": "mse"}, "which is nothing for mse. Take `loss.name = kl`"),
        (SOME, 3, {"tail": "bucket"}, "which is nothing for loss.tail = bucket"),
        (SOME, 3, {"temperature": 0.5}, "a tail can't be rebuilt below"),
    ],
)
def test_what_mapped_labels_do_not_tell_is_refused(
    tmp_path: Path, classes: ClassesOptions, k: int, options: dict[str, Any], message: str
) -> None:
    stores = map_stores([make_store(tmp_path / "store", k=k)], classes)

    with pytest.raises(InvalidOption, match=message):
        train(make_student(num_classes=stores[0].num_classes), stores, **options)


def test_a_student_with_other_outputs_is_refused(first: Store) -> None:
    with pytest.raises(StoreMismatch, match="5"):
        train(make_student(num_classes=5), map_stores([first], SOME), alpha=1.0)


def test_merged_classes_have_no_probability_under_a_sigmoid_head(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", head="sigmoid")

    with pytest.raises(InvalidOption, match=r"Leave `classes\.merged` out, or give it one class for each"):
        map_stores([store], MERGED)


def test_without_a_word_of_classes_stores_stay_as_they_are(first: Store) -> None:
    assert map_stores([first], ClassesOptions()) == [first]


def test_names_of_neither_side_are_refused(first: Store) -> None:
    (store,) = map_stores([first], SOME)

    with pytest.raises((StoreMismatch, OddLabels), match="none of the 3 classes"):
        with_stored_classes(pictures(class_names=("dog", "ant", "cow")), store)
