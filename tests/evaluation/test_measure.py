# Shape letters: N samples, C classes, K entries kept.

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softlab.errors import StoreMismatch
from softlab.evaluation.measure import BATCH_SIZE, Evaluation, evaluate
from softlab.loading.aligned import Aligned
from softlab.loading.alignment import align
from softlab.loading.batch import Batch
from softlab.loading.batches import BatchLoader, LoaderOptions
from softlab.sources.source import Source
from softlab.store.reader import Store, open_store
from softlab.views.finishing import Finishing
from tests.teacher.dumping import NUM_CLASSES, Pictures, dump, forward_of, make_options, make_teacher

COUNT = 300
TARGETS_N = np.random.default_rng(0).integers(-1, NUM_CLASSES, COUNT)
PICTURES = Pictures(count=COUNT, targets_N=TARGETS_N)
STUDENT, TEACHER = make_teacher(seed=1).eval(), make_teacher(seed=0)
assert COUNT > BATCH_SIZE, "more than one batch is measured"


def dense(module: nn.Module) -> Tensor:
    """Logits of every picture in float64, from plain forward passes."""
    return forward_of(module, PICTURES, make_options()).double()


def make_store(tmp_path: Path, *, k: int = NUM_CLASSES, temperature: tuple[float, ...] = (1.0, 4.0)) -> Store:
    options = make_options(k=k, coding="float32", temperature=temperature, shard_rows=None, batch_size=100)
    dump(tmp_path / "store", options, teacher=TEACHER, source=PICTURES)
    return open_store(tmp_path / "store")


def make_loader(store: Store | None, *, source: Source = PICTURES) -> BatchLoader:
    numbers_N = None if store is None else align(source, store)
    aligned = Aligned(source=source, finishing=Finishing(), store=store, store_numbers_N=numbers_N)
    return BatchLoader(aligned, device=torch.device("cpu"), options=LoaderOptions(workers=0))


def measure(store: Store | None = None, *, source: Source = PICTURES) -> Evaluation:
    """The student alone."""
    return evaluate({"student": forward}, make_loader(store, source=source))["student"]


def forward(batch: Batch) -> Tensor:
    logits_BC: Tensor = STUDENT(batch.images_BCHW)
    return logits_BC


def tail_shared_equally(teacher_NC: Tensor, *, k: int) -> Tensor:
    """Probabilities with those outside each row's k largest replaced by their mean."""
    head_NK, class_ids_NK = teacher_NC.topk(k, dim=1)
    others_N = (1 - head_NK.sum(dim=1)) / (teacher_NC.shape[1] - k)
    return others_N[:, None].expand_as(teacher_NC).scatter(1, class_ids_NK, head_NK)


def mean_kl(teacher_NC: Tensor, student_NC: Tensor) -> float:
    return (teacher_NC * (teacher_NC.log() - student_NC.log())).sum(dim=1).mean().item()


def test_accuracy_is_over_the_rows_whose_target_is_known() -> None:
    found = measure()

    hits_N = dense(STUDENT).argmax(dim=1).numpy() == TARGETS_N
    assert found.rows == COUNT
    assert found.accuracy == pytest.approx(hits_N[TARGETS_N >= 0].mean(), abs=1e-12)


def test_agreement_is_with_the_teachers_own_largest_logit(tmp_path: Path) -> None:
    found = measure(make_store(tmp_path, k=1))

    expected = (dense(STUDENT).argmax(dim=1) == dense(TEACHER).argmax(dim=1)).double().mean().item()
    assert found.teacher_agreement == pytest.approx(expected, abs=1e-12)


def test_with_all_classes_kept_the_divergence_is_the_dense_one(tmp_path: Path) -> None:
    found = measure(make_store(tmp_path))

    expected = mean_kl(dense(TEACHER).softmax(dim=1), dense(STUDENT).softmax(dim=1))
    assert found.teacher_kl == pytest.approx(expected, rel=1e-5)


def test_with_few_classes_kept_the_teachers_tail_is_shared_equally(tmp_path: Path) -> None:
    found = measure(make_store(tmp_path, k=4))

    teacher_NC = tail_shared_equally(dense(TEACHER).softmax(dim=1), k=4)
    assert found.teacher_kl == pytest.approx(mean_kl(teacher_NC, dense(STUDENT).softmax(dim=1)), rel=1e-5)


def test_a_store_without_temperature_one_is_measured_at_its_smallest(tmp_path: Path) -> None:
    found = measure(make_store(tmp_path, k=4, temperature=(2.0, 4.0)))

    teacher_NC = tail_shared_equally((dense(TEACHER) / 2).softmax(dim=1), k=4)
    assert found.teacher_kl == pytest.approx(mean_kl(teacher_NC, (dense(STUDENT) / 2).softmax(dim=1)), rel=1e-5)


def test_the_teacher_itself_agrees_with_its_store(tmp_path: Path) -> None:
    loader = make_loader(make_store(tmp_path))

    found = evaluate({"teacher": lambda batch: TEACHER.eval()(batch.images_BCHW)}, loader)["teacher"]

    assert found.teacher_agreement == 1
    assert found.teacher_kl == pytest.approx(0, abs=1e-6)


def test_what_neither_source_nor_store_can_tell_is_none() -> None:
    assert measure(source=replace(PICTURES, targets_N=None)) == Evaluation(
        rows=COUNT, accuracy=None, teacher_agreement=None, teacher_kl=None
    )


def test_targets_that_are_all_unknown_give_no_accuracy() -> None:
    assert measure(source=replace(PICTURES, targets_N=np.full(COUNT, -1))).accuracy is None


def test_several_models_are_measured_in_one_pass_as_each_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path)

    forwards = {"teacher": lambda batch: TEACHER.eval()(batch.images_BCHW), "student": forward}
    found = evaluate(forwards, make_loader(store))

    assert list(found) == ["teacher", "student"]
    assert found["student"] == measure(store)
    assert found["teacher"] != found["student"]


def test_a_model_with_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    loader = make_loader(make_store(tmp_path))

    with pytest.raises(StoreMismatch, match=f"Build the student with num_classes = {NUM_CLASSES}"):
        evaluate({"small": lambda batch: forward(batch)[:, :-1]}, loader)
