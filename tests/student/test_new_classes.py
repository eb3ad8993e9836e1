"""Students with more classes than their teacher, which keep its classes and learn new ones from hard targets."""

# Shape letters: N samples, C classes.

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses import DecoupledKlLoss, KlLoss, decision_loss
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.reader import Store
from tests.student.pictures import NUM_CLASSES, NUM_PICTURES, make_store, make_student, pictures, train
from tests.teacher.dumping import Pictures, images_of

NUM_ALL = 7
ALL_NAMES = ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")


def more_pictures() -> Pictures:
    """Of all classes: those of the teacher, and two more behind them."""
    return replace(pictures(class_names=ALL_NAMES), targets_N=np.arange(NUM_PICTURES) % NUM_ALL)


@pytest.fixture
def old_store(tmp_path: Path) -> Store:
    """What a teacher of the first five classes says about pictures of all."""
    return make_store(tmp_path / "old", source=more_pictures(), k=3)


def on_all_pictures(*, num_classes: int = NUM_ALL) -> tuple[Tensor, Tensor]:
    """Logits of a new student in training, and hard targets."""
    with torch.no_grad():
        logits_NC = make_student(num_classes=num_classes).train()(images_of(pictures(), range(NUM_PICTURES)))
    return logits_NC, torch.arange(NUM_PICTURES) % NUM_ALL


def test_the_loss_is_that_of_learning_without_forgetting(tmp_path: Path) -> None:
    """Li, Hoiem (2016), figure 3: the old outputs against the old network's, the new ones against the targets."""
    store = make_store(tmp_path / "old", source=more_pictures(), temperature=(2.0,))

    (result,) = train(
        make_student(num_classes=NUM_ALL),
        store,
        source=more_pictures(),
        new_classes=True,
        alpha=0.6,
        temperature=2.0,
        epochs=1,
        batch_size=NUM_PICTURES,
    )

    logits_NC, targets_N = on_all_pictures()
    labels = store.read(range(NUM_PICTURES))
    teacher_NC = torch.empty(NUM_PICTURES, NUM_CLASSES).scatter_(1, labels.class_ids_BK, labels.logits_BK)
    old = functional.kl_div(
        (logits_NC[:, :NUM_CLASSES] / 2).log_softmax(1), (teacher_NC / 2).softmax(1), reduction="batchmean"
    )
    is_new_N = targets_N >= NUM_CLASSES
    new = functional.cross_entropy(logits_NC[is_new_N, NUM_CLASSES:], targets_N[is_new_N] - NUM_CLASSES)
    expected = 0.6 * 4 * old + 0.4 * new
    assert result.train_loss == pytest.approx(expected.item(), rel=1e-5)


def test_a_loss_that_looks_at_targets_does_without_those_the_teacher_never_knew(old_store: Store) -> None:
    student = make_student(num_classes=NUM_ALL)
    run: dict[str, Any] = {"alpha": 1.0, "epochs": 1, "batch_size": NUM_PICTURES}

    (result,) = train(student, old_store, source=more_pictures(), new_classes=True, loss="dkd", **run)

    logits_NC, targets_N = on_all_pictures()
    known_N = targets_N.masked_fill(targets_N >= NUM_CLASSES, -1)
    labels = old_store.read(range(NUM_PICTURES))
    expected = decision_loss(logits_NC[:, :NUM_CLASSES], labels, targets_B=known_N, options=DecoupledKlLoss())
    assert result.train_loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_new_classes_are_learnt_and_the_old_ones_not_forgotten(old_store: Store) -> None:
    source, student, tuned = more_pictures(), make_student(num_classes=NUM_ALL), make_student(num_classes=NUM_ALL)

    train(student, old_store, source=source, new_classes=True, alpha=0.5, epochs=40)
    train(tuned, source=source, epochs=40)

    targets_N, images_NCHW = torch.arange(NUM_PICTURES) % NUM_ALL, images_of(pictures(), range(NUM_PICTURES))
    is_new_N, labels = targets_N >= NUM_CLASSES, old_store.read(range(NUM_PICTURES))
    with torch.inference_mode():
        logits_NC, tuned_NC = student.eval()(images_NCHW), tuned.eval()(images_NCHW)
    old, forgotten = (
        decision_loss(each_NC[:, :NUM_CLASSES], labels, options=KlLoss(temperature=1.0))
        for each_NC in (logits_NC, tuned_NC)
    )
    assert logits_NC[is_new_N, NUM_CLASSES:].argmax(dim=1).equal(targets_N[is_new_N] - NUM_CLASSES)
    assert old < forgotten / 10


def test_without_saying_so_a_student_of_more_classes_is_refused(old_store: Store) -> None:
    with pytest.raises(StoreMismatch, match="Build the student with num_classes = 5"):
        train(make_student(num_classes=NUM_ALL), old_store, source=more_pictures(), alpha=1.0)


def test_a_student_without_outputs_for_the_new_classes_is_refused(old_store: Store) -> None:
    with pytest.raises(StoreMismatch, match=r"it needs more than the teacher's 5. Build it with all classes"):
        train(make_student(), old_store, source=more_pictures(), new_classes=True, alpha=1.0)
    with pytest.raises(StoreMismatch, match=r"hard targets up to 6. Build the student with num_classes = 7 or more"):
        train(make_student(num_classes=6), old_store, source=more_pictures(), new_classes=True)


def test_mixed_views_have_no_one_class_to_add(tmp_path: Path) -> None:
    store = make_store(tmp_path / "mixed", source=more_pictures(), augment=ViewRecipe(mixup=1.0), views=2)

    with pytest.raises(StoreMismatch, match=r"`distil\.new_classes` needs one hard target a row"):
        train(make_student(num_classes=NUM_ALL), store, source=more_pictures(), new_classes=True)


def test_a_store_can_not_measure_classes_that_it_lacks(old_store: Store) -> None:
    with pytest.raises(InvalidOption, match=r"`valid_store`: with `distil\.new_classes` .* Leave it out"):
        train(make_student(num_classes=NUM_ALL), old_store, source=more_pictures(), valid=old_store, new_classes=True)
