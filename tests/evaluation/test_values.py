"""Models that give vectors in place of classes: what is measured of them, against plain computation row by row."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, ModelError
from softlab.evaluation.best import choose_metric
from softlab.evaluation.metrics import METRIC_BY_NAME, neighbours
from softlab.evaluation.metrics.neighbours import KeptRows, nearest, unit_rows
from softlab.evaluation.one_model import EvaluateOptions, evaluate_model
from softlab.loading.aligned import Aligned, beside_store
from softlab.modalities.images.inputs import ImageInput
from softlab.store.reader import Store
from tests.evaluation.pictures import PICTURES, STUDENT, TARGETS_N, TEACHER, dense
from tests.evaluation.pictures import make_store as make_classes_store
from tests.evaluation.values import NARROW, make_values_store, measure_values, neighbours_of
from tests.teacher.dumping import make_teacher

OF_VALUES = ["neighbour_accuracy", "teacher_overlap", "teacher_cosine", "teacher_mse"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_values_store(tmp_path_factory.mktemp("values") / "store")


def aligned_to(store: Store | None) -> Aligned:
    inputs = (ImageInput(),)
    aligned = Aligned(source=PICTURES, inputs=inputs) if store is None else beside_store(PICTURES, store, inputs)
    features = {} if store is None else {"embedding": store}
    return replace(aligned, features=features, values_output="embedding")


def test_vectors_have_their_own_metrics_and_no_accuracy(store: Store) -> None:
    found = measure_values(store, per_class=True)

    assert list(found.values) == OF_VALUES
    assert found.classes is None


def test_cosine_and_squared_error_are_means_over_rows(store: Store) -> None:
    student, teacher = dense(STUDENT), dense(TEACHER)

    found = measure_values(store).values

    cosines = torch.nn.functional.cosine_similarity(student, teacher)
    assert found["teacher_cosine"] == pytest.approx(cosines.mean().item(), rel=1e-5)
    assert found["teacher_mse"] == pytest.approx(((student - teacher) ** 2).mean().item(), rel=1e-5)


@pytest.mark.parametrize("module", [STUDENT, NARROW])
def test_overlap_counts_the_ten_nearest_rows_whatever_the_width(store: Store, module: nn.Module) -> None:
    own, theirs = dense(module), dense(TEACHER)

    found = measure_values(store, module=module).values

    shares = [
        len(set(neighbours_of(own, row, k=10)) & set(neighbours_of(theirs, row, k=10))) / 10 for row in range(len(own))
    ]
    assert found["teacher_overlap"] == pytest.approx(np.mean(shares))


def test_the_class_of_the_nearest_rows_is_voted_for(store: Store) -> None:
    """Of the rows whose target is known; a tie goes to the class of the nearest row."""
    known = np.flatnonzero(TARGETS_N >= 0)
    vectors, targets = dense(STUDENT)[torch.from_numpy(known)], TARGETS_N[known]
    votes = [[int(targets[near]) for near in neighbours_of(vectors, row, k=5)] for row in range(len(known))]
    right = [Counter(vote).most_common(1)[0][0] == target for vote, target in zip(votes, targets, strict=True)]

    assert measure_values(store).values["neighbour_accuracy"] == pytest.approx(np.mean(right))


def test_the_teacher_itself_is_at_no_distance_from_its_store(store: Store) -> None:
    found = measure_values(store, module=TEACHER).values

    assert found["teacher_overlap"] == 1
    assert found["teacher_cosine"] == pytest.approx(1, abs=1e-6)
    assert found["teacher_mse"] == pytest.approx(0, abs=1e-8)


def test_of_another_width_only_relations_are_measured(store: Store) -> None:
    assert set(measure_values(store, module=NARROW).values) == {"neighbour_accuracy", "teacher_overlap"}


def test_a_prefix_is_measured_as_if_vectors_were_cut_there(store: Store) -> None:
    own, theirs = dense(STUDENT)[:, :6], dense(TEACHER)

    found = measure_values(store, prefix=6).values

    shares = [
        len(set(neighbours_of(own, row, k=10)) & set(neighbours_of(theirs, row, k=10))) / 10 for row in range(len(own))
    ]
    assert found["teacher_overlap"] == pytest.approx(np.mean(shares))
    assert "teacher_cosine" not in found


def test_a_prefix_that_there_is_not_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"evaluate\.prefix = 21: the model gives \[20\] for a sample"):
        measure_values(store, prefix=21)
    with pytest.raises(InvalidOption, match=r"evaluate\.prefix = 0: expected 1 or more"):
        measure_values(store, prefix=0)
    with pytest.raises(InvalidOption, match=r"measured by its classes, which can't be cut"):
        evaluate_model(STUDENT, PICTURES, options=EvaluateOptions(prefix=4))


def test_without_targets_there_is_no_accuracy_of_neighbours(store: Store) -> None:
    found = measure_values(store, source=replace(PICTURES, targets_N=None))

    assert "neighbour_accuracy" not in found.values


@pytest.mark.parametrize("most", [10_000, 30, 7])
def test_what_is_measured_does_not_depend_on_the_size_of_batches(
    store: Store, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours.KeptRows.__init__, "__kwdefaults__", {"most": most})

    one, other = (measure_values(store, batch_size=size).values for size in (256, 3))

    assert one == pytest.approx(other, abs=1e-6)


def test_of_too_many_rows_evenly_spread_ones_are_kept() -> None:
    kept = KeptRows(most=10)
    for start in range(0, 33, 4):
        source_B = torch.arange(start, min(start + 4, 33))
        kept.add(source_B, source_B * 2)

    (found,) = kept.value()

    assert found.tolist() == [0, 8, 16, 24, 32, 40, 48, 56, 64]


def test_of_long_vectors_fewer_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST_NUMBERS", 40)
    kept = KeptRows()

    kept.add(torch.arange(20), torch.zeros(20, 8))

    assert len(kept.value()[0]) == 5


def test_neighbours_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    unit_ND = unit_rows(torch.randn(23, 5, generator=torch.Generator().manual_seed(0)))
    whole = torch.cat(list(nearest(unit_ND, k=3)))

    monkeypatch.setattr(neighbours, "CHUNK_NUMBERS", 100)
    pieces = list(nearest(unit_ND, k=3))

    assert len(pieces) == 6
    assert torch.equal(torch.cat(pieces), whole)


class Broken(nn.Module):
    """One number of the third vector of a batch is NaN."""

    def forward(self, images_BCHW: Tensor) -> Tensor:
        given_BD: Tensor = STUDENT(images_BCHW)
        return given_BD.index_put((torch.tensor(2), torch.tensor(0)), torch.tensor(torch.nan))


def test_a_model_that_gives_nan_is_refused(store: Store) -> None:
    with pytest.raises(ModelError, match="outputs are NaN or infinite for 2 of"):
        measure_values(store, module=Broken())


def test_an_output_that_the_store_does_not_hold_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"holds no values of this name \(values: embedding\)\. Did you mean emb"):
        evaluate_model(STUDENT, PICTURES, store=store, output="embeding")
    with pytest.raises(InvalidOption, match=r"holds no values of this name \(values: none\)\."):
        measure_values(make_classes_store(tmp_path))


def test_a_store_of_values_alone_is_refused_where_the_model_is_not_said_to_give_them(store: Store) -> None:
    with pytest.raises(InvalidOption, match=r"only values \(embedding\). If the model gives such values, say"):
        evaluate_model(STUDENT, PICTURES, store=store)


def test_by_itself_models_of_vectors_are_compared_by_their_neighbours(store: Store, tmp_path: Path) -> None:
    assert choose_metric("auto", aligned_to(store)) == "teacher_overlap"
    assert choose_metric("auto", aligned_to(None)) == "neighbour_accuracy"
    for name in OF_VALUES:
        assert choose_metric(name, aligned_to(store)) == name
    scores = make_values_store(tmp_path / "scores", output=("embedding:values=score",), teacher=Scorer())
    assert choose_metric("auto", aligned_to(scores)) == "teacher_mse"


class Scorer(nn.Module):
    """One number a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make_teacher(num_classes=1)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        return {"score": self.net(images_BCHW)[:, 0]}


def test_a_metric_of_classes_is_refused_for_vectors(store: Store) -> None:
    with pytest.raises(InvalidOption, match="the models give values, and no logits over classes"):
        choose_metric("accuracy", aligned_to(store))


def test_metrics_of_vectors_are_listed() -> None:
    of_values = [name for name, metric in METRIC_BY_NAME.items() if metric.needs & {"values", "teacher values"}]

    assert of_values == ["pair_recall_at_1", *OF_VALUES]
