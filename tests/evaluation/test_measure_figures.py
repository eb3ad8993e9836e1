"""What is measured beside accuracy, agreement and KL: Jensen-Shannon, calibration, classes."""

# Shape letters: N samples, C classes, K entries kept.

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softlab.evaluation.measure import Evaluation, Tally, evaluate
from softlab.evaluation.one_model import EvaluateOptions, evaluate_model, first_image, open_inputs
from softlab.labels.selection import keep_top_k
from softlab.store.reader import Store, open_store
from tests.student.random_batch import NUM_CLASSES as NUM_OUTPUTS
from tests.student.random_batch import random_batch
from tests.teacher.augmenting import MIXING, dump_views, open_uncached
from tests.teacher.dumping import NUM_CLASSES, Pictures, dump, forward_of, images_of, make_options, make_teacher

COUNT = 300
TARGETS_N = np.random.default_rng(0).integers(-1, NUM_CLASSES, COUNT)
PICTURES = Pictures(count=COUNT, targets_N=TARGETS_N)
STUDENT, TEACHER = make_teacher(seed=1).eval(), make_teacher(seed=0)


def dense(module: nn.Module) -> Tensor:
    """Logits of every picture in float64, from plain forward passes."""
    return forward_of(module, PICTURES, make_options()).double()


def make_store(tmp_path: Path, *, k: int, temperature: tuple[float, ...] = (1.0, 4.0)) -> Store:
    options = make_options(k=k, coding="float32", temperature=temperature, shard_rows=None, batch_size=100)
    dump(tmp_path / "store", options, teacher=TEACHER, source=PICTURES)
    return open_store(tmp_path / "store")


def measure(store: Store | None = None, *, source: Pictures = PICTURES, per_class: bool = False) -> Evaluation:
    options = EvaluateOptions(device="cpu", per_class=per_class)
    return evaluate_model(STUDENT, source, store=store, options=options)


def tail_shared_equally(teacher_NC: Tensor, *, k: int) -> Tensor:
    """Probabilities with those outside each row's k largest replaced by their mean."""
    head_NK, class_ids_NK = teacher_NC.topk(k, dim=1)
    others_N = (1 - head_NK.sum(dim=1)) / max(teacher_NC.shape[1] - k, 1)
    return others_N[:, None].expand_as(teacher_NC).scatter(1, class_ids_NK, head_NK)


def mean_jensen_shannon(teacher_NC: Tensor, student_NC: Tensor) -> float:
    """Half of each one's KL to the mean of both, from the definition."""
    middle_NC = (teacher_NC + student_NC) / 2
    from_teacher_N = (teacher_NC * (teacher_NC / middle_NC).log()).sum(dim=1)
    from_student_N = (student_NC * (student_NC / middle_NC).log()).sum(dim=1)
    return ((from_teacher_N + from_student_N) / 2).mean().item()


@pytest.mark.parametrize("k", [1, 4, NUM_CLASSES])
@pytest.mark.parametrize(("temperature", "measured_at"), [((1.0, 4.0), 1), ((2.0, 4.0), 2)])
def test_jensen_shannon_is_the_dense_one_with_the_tail_shared_equally(
    tmp_path: Path, k: int, temperature: tuple[float, ...], measured_at: float
) -> None:
    found = measure(make_store(tmp_path, k=k, temperature=temperature))

    teacher_NC = tail_shared_equally((dense(TEACHER) / measured_at).softmax(dim=1), k=k)
    expected = mean_jensen_shannon(teacher_NC, (dense(STUDENT) / measured_at).softmax(dim=1))
    assert found.teacher_jensen_shannon == pytest.approx(expected, rel=1e-5)
    assert 0 < expected < np.log(2)


def test_calibration_is_over_all_batches_and_the_rows_whose_target_is_known() -> None:
    found = measure()

    confidence_N, predicted_N = (values.numpy() for values in dense(STUDENT).softmax(dim=1).max(dim=1))
    known_N, bins_N = TARGETS_N >= 0, np.ceil(15 * confidence_N)
    gaps = [((predicted_N == TARGETS_N) - confidence_N)[known_N & (bins_N == number)] for number in range(1, 16)]
    assert found.calibration_error == pytest.approx(sum(abs(gap.sum()) for gap in gaps) / known_N.sum(), abs=1e-6)


def test_the_teachers_own_accuracy_is_over_the_rows_whose_target_is_known(tmp_path: Path) -> None:
    found = measure(make_store(tmp_path, k=4))

    is_right_N = dense(TEACHER).argmax(dim=1).numpy() == TARGETS_N
    assert found.teacher_accuracy == pytest.approx(is_right_N.sum() / (TARGETS_N >= 0).sum())
    assert measure().teacher_accuracy is None


def test_classes_are_measured_where_that_is_asked_for() -> None:
    found = measure(per_class=True)

    predicted_N = dense(STUDENT).argmax(dim=1).numpy()
    assert measure().classes is None
    assert found.classes is not None
    assert [figures.name for figures in found.classes] == list(PICTURES.class_names or ())
    for number, figures in enumerate(found.classes):
        is_here_N, is_said_N = np.equal(TARGETS_N, number), (predicted_N == number) & (TARGETS_N >= 0)
        assert (figures.samples, figures.predicted) == (is_here_N.sum(), is_said_N.sum())
        assert figures.correct == (is_here_N & is_said_N).sum()
    assert replace(found, classes=None) == measure()


def test_names_come_from_the_store_where_the_source_has_none(tmp_path: Path) -> None:
    store = make_store(tmp_path, k=4)

    found = measure(store, source=replace(PICTURES, class_names=None), per_class=True)

    assert found.classes is not None
    assert [figures.name for figures in found.classes] == list(store.class_names or ())


def test_a_class_that_the_model_has_no_output_for_is_measured_too() -> None:
    """The source names more classes than the model has outputs; its samples of those are never right."""
    loader = open_inputs(PICTURES, options=EvaluateOptions(device="cpu"))

    found = evaluate({"small": lambda batch: STUDENT(batch.images_BCHW)[:, :5]}, loader, per_class=True)["small"]

    assert found.classes is not None
    assert len(found.classes) == NUM_CLASSES
    assert sum(figures.correct for figures in found.classes[5:]) == 0
    assert sum(figures.samples for figures in found.classes) == (TARGETS_N >= 0).sum()


def test_without_targets_and_store_nothing_is_known() -> None:
    found = measure(source=replace(PICTURES, targets_N=None), per_class=True)

    assert found == Evaluation(rows=COUNT, accuracy=None, teacher_agreement=None, teacher_kl=None)
    assert (found.teacher_jensen_shannon, found.calibration_error, found.classes) == (None, None, None)


def test_mixed_views_have_no_accuracy_but_a_teacher(tmp_path: Path) -> None:
    dump_views(tmp_path / "store", 1, augment=MIXING, teacher=TEACHER, source=PICTURES, k=NUM_CLASSES)

    found = measure(open_uncached(tmp_path / "store"), per_class=True)

    assert (found.accuracy, found.calibration_error, found.classes) == (None, None, None)
    assert found.teacher_jensen_shannon is not None


def test_a_sigmoid_head_has_an_agreement_but_no_distribution_to_compare() -> None:
    batch = random_batch()
    logits_BC = torch.randn(len(batch), NUM_OUTPUTS, generator=torch.Generator().manual_seed(3))
    labels = keep_top_k(logits_BC, k=2, head="sigmoid")

    tally = Tally(torch.device("cpu"))
    tally.add(logits_BC, replace(batch, labels=labels))
    found = tally.evaluation()

    assert found.teacher_agreement == 1
    assert found.accuracy is not None
    assert (found.teacher_kl, found.teacher_jensen_shannon, found.calibration_error) == (None, None, None)


def test_a_model_of_the_same_distribution_has_no_divergence() -> None:
    batch = random_batch()
    assert batch.labels is not None
    logits_BC = batch.labels.logits_BK.gather(1, batch.labels.class_ids_BK.argsort(dim=1))

    tally = Tally(torch.device("cpu"))
    tally.add(logits_BC + 7, batch)

    assert tally.evaluation().teacher_jensen_shannon == pytest.approx(0, abs=1e-6)


# Models measured on their own.


def test_the_first_image_is_one_as_the_model_is_given_it() -> None:
    options = EvaluateOptions(device="cpu")

    found_BCHW = first_image(open_inputs(PICTURES, options=options), options)

    assert found_BCHW.equal(images_of(PICTURES, [0]))
