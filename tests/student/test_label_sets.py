"""Students of samples that may be of several classes at once."""

# Shape letters: N samples, C classes.

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.class_map import ClassesOptions
from softlab.labels.losses import multi_label_cross_entropy
from softlab.loading.sample_check import with_stored_classes
from softlab.store.mapped import map_stores
from softlab.store.reader import Store
from tests.student.pictures import CLASS_NAMES, NUM_CLASSES, NUM_PICTURES, make_store, make_student, train
from tests.teacher.dumping import Pictures, images_of

SETS_NC = (np.random.default_rng(0).random((NUM_PICTURES, NUM_CLASSES)) < 0.4).astype(np.int8)
ALL = list(range(NUM_PICTURES))
ONE_STEP: dict[str, Any] = {"epochs": 1, "batch_size": NUM_PICTURES, "optimizer": "sgd", "learning_rate": 0.01}


@dataclass(frozen=True, kw_only=True)
class TaggedPictures(Pictures):
    label_sets: NDArray[np.int8] | None = None


def tagged(*, sets_NC: NDArray[np.int8] = SETS_NC, class_names: tuple[str, ...] | None = CLASS_NAMES) -> TaggedPictures:
    return TaggedPictures(count=NUM_PICTURES, class_names=class_names, label_sets=sets_NC)


def some_unknown() -> NDArray[np.int8]:
    sets_NC = SETS_NC.copy()
    sets_NC[::3] = -1
    return sets_NC


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store", head="sigmoid", source=tagged())


def logits_at_first() -> Tensor:
    with torch.no_grad():
        logits_NC: Tensor = make_student().train()(images_of(tagged(), ALL))
    return logits_NC


def test_without_a_store_each_class_is_learnt_by_itself() -> None:
    (result,) = train(make_student(), source=tagged(), **ONE_STEP)

    expected = binary_cross_entropy_with_logits(logits_at_first(), torch.from_numpy(SETS_NC).float())
    assert result.train_loss == pytest.approx(expected.item(), rel=1e-5)


def test_rows_whose_labels_are_not_known_do_not_count() -> None:
    (result,) = train(make_student(), source=tagged(sets_NC=some_unknown()), **ONE_STEP)

    known_N = some_unknown()[:, 0] >= 0
    wanted_NC = torch.from_numpy(SETS_NC[known_N]).float()
    expected = binary_cross_entropy_with_logits(logits_at_first()[known_N], wanted_NC)
    assert result.train_loss == pytest.approx(expected.item(), rel=1e-5)
    assert multi_label_cross_entropy(torch.zeros(2, 3), -torch.ones(2, 3)).item() == 0


def test_labels_are_learnt_beside_a_multi_label_teacher(store: Store) -> None:
    (result,) = train(make_student(), store, source=tagged(), **ONE_STEP, loss="bce", temperature=1.0, alpha=0.7)

    labels = store.read(ALL)
    raw_NC = torch.empty_like(labels.logits_BK).scatter(1, labels.class_ids_BK, labels.logits_BK)
    p_NC = (raw_NC + labels.max_logit_B[:, None]).sigmoid()
    soft = binary_cross_entropy_with_logits(logits_at_first(), p_NC)
    hard = binary_cross_entropy_with_logits(logits_at_first(), torch.from_numpy(SETS_NC).float())
    assert result.train_loss == pytest.approx((0.7 * soft + 0.3 * hard).item(), rel=1e-5)


def test_students_are_measured_and_the_best_epoch_is_that_of_the_mean_average_precision(store: Store) -> None:
    (result, baseline) = train(make_student(), store, source=tagged(), loss="bce", valid=True, baseline=True)

    assert result.best_by == "mean_average_precision"
    for each in (result, baseline):
        assert each.best is not None
        assert {"mean_average_precision", "micro_f1", "macro_f1"} <= each.best.values.keys()
        assert "accuracy" not in each.best.values


def test_labels_go_with_the_teachers_classes_to_those_of_students(store: Store) -> None:
    (mapped,) = map_stores([store], ClassesOptions(names=("dog", "ant")))

    source: Any = with_stored_classes(tagged(), mapped)

    np.testing.assert_array_equal(source.label_sets, SETS_NC[:, [3, 0]])


def test_a_source_without_names_may_lack_the_last_classes(store: Store) -> None:
    fewer = tagged(sets_NC=SETS_NC[:, :3], class_names=None)

    (result,) = train(make_student(), store, source=fewer, loss="bce", valid=True)

    assert result.last is not None
    assert "micro_f1" in result.last.values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 0.1}, r"`targets\.label_smoothing`.* Leave them out"),
        ({"class_weights": (1.0, 1.0, 1.0, 1.0, 2.0)}, r"`targets\.class_weights`.* Leave them out"),
    ],
)
def test_what_is_for_one_class_a_sample_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        train(make_student(), source=tagged(), **options)


def test_a_teacher_that_chooses_one_class_does_not_fit(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", source=tagged())

    with pytest.raises(StoreMismatch, match=r"softmax head, which chooses one\. .* or dump .*`dump\.head = sigmoid`"):
        train(make_student(), store, source=tagged())


def test_a_student_with_other_outputs_is_refused() -> None:
    with pytest.raises(StoreMismatch, match=r"has 3 outputs, but .* are of 5 classes\. Build .* num_classes = 5"):
        train(make_student(num_classes=3), source=tagged())
