# Shape letters: B rows in a batch, C classes.

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from softlab.evaluation.measure import evaluate
from softlab.evaluation.metrics.per_class import ClassFigures, class_figures, count_by_class
from softlab.evaluation.one_model import open_inputs
from softlab.loading.options import CheckOptions
from softlab.models.device import DeviceOptions
from tests.evaluation.pictures import PICTURES, STUDENT, TARGETS_N, dense, make_store, measure
from tests.modalities.images.batches import images_in
from tests.teacher.dumping import NUM_CLASSES


@given(rows=st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), max_size=40))
def test_counts_are_those_of_going_through_the_rows(rows: list[tuple[int, int]]) -> None:
    predicted_B = torch.tensor([predicted for predicted, _ in rows], dtype=torch.int64)
    targets_B = torch.tensor([target for _, target in rows], dtype=torch.int64)

    found_3C = count_by_class(predicted_B, targets_B, num_classes=5)

    known = [(predicted, target) for predicted, target in rows if target >= 0]
    for number in range(5):
        samples = sum(target == number for _, target in known)
        guesses = sum(predicted == number for predicted, _ in known)
        correct = sum(predicted == target == number for predicted, target in known)
        assert found_3C[:, number].tolist() == [samples, guesses, correct]


def test_recall_is_over_the_samples_and_precision_over_the_predictions() -> None:
    counts_3C = torch.tensor([[4, 0, 2], [3, 1, 0], [3, 0, 0]])

    found = class_figures(counts_3C, ["cat", "dog", "owl"])

    assert found == (
        ClassFigures(name="cat", samples=4, predicted=3, correct=3, recall=0.75, precision=1.0),
        ClassFigures(name="dog", samples=0, predicted=1, correct=0, recall=None, precision=0.0),
        ClassFigures(name="owl", samples=2, predicted=0, correct=0, recall=0.0, precision=None),
    )


def test_a_class_without_a_name_has_its_number() -> None:
    found = class_figures(torch.zeros(3, 3, dtype=torch.int64), ["cat", "dog"])

    assert [figures.name for figures in found] == ["cat", "dog", "2"]
    assert [figures.name for figures in class_figures(torch.zeros(3, 2, dtype=torch.int64), None)] == ["0", "1"]


# All rows of a source.


def test_classes_are_measured_where_that_is_asked_for() -> None:
    found = measure(per_class=True)

    predicted_N = dense(STUDENT).argmax(dim=1).numpy()
    assert measure().classes is None
    assert found.classes is not None
    assert [figures.name for figures in found.classes] == list(PICTURES.class_names or ())
    for number, figures in enumerate(found.classes):
        is_here_N, is_predicted_N = np.equal(TARGETS_N, number), (predicted_N == number) & (TARGETS_N >= 0)
        assert (figures.samples, figures.predicted) == (is_here_N.sum(), is_predicted_N.sum())
        assert figures.correct == (is_here_N & is_predicted_N).sum()
    assert structs.replace(found, classes=None) == measure()


def test_names_come_from_the_store_where_the_source_has_none(tmp_path: Path) -> None:
    store = make_store(tmp_path, k=4)

    found = measure(store, source=replace(PICTURES, class_names=None), per_class=True)

    assert found.classes is not None
    assert [figures.name for figures in found.classes] == list(store.class_names or ())


def test_a_class_that_the_model_has_no_output_for_is_measured_too() -> None:
    """The source names more classes than the model has outputs; its samples of those are never right."""
    loader = open_inputs(PICTURES, device=DeviceOptions(name="cpu"), check=CheckOptions())

    found = evaluate({"small": lambda batch: STUDENT(images_in(batch))[:, :5]}, loader, per_class=True)["small"]

    assert found.classes is not None
    assert len(found.classes) == NUM_CLASSES
    assert sum(figures.correct for figures in found.classes[5:]) == 0
    assert sum(figures.samples for figures in found.classes) == (TARGETS_N >= 0).sum()


def test_without_targets_there_are_no_classes() -> None:
    assert measure(source=replace(PICTURES, targets_N=None), per_class=True).classes is None
