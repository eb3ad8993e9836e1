"""Students of several teachers: what the stores say together, and stores that can't teach together."""

# Shape letters: S teachers, N samples, B rows in a batch, C classes.

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.order import ShuffledBatches
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.store.reader import Store, open_store
from tests.student.fashion import same_weights
from tests.student.pictures import (
    NUM_CLASSES,
    NUM_PICTURES,
    make_store,
    make_student,
    pictures,
    stop_at,
    train,
    train_interrupted,
)
from tests.teacher.dumping import images_of

ALL = list(range(NUM_PICTURES))
FLIPS = ViewRecipe(transforms=("RandomHorizontalFlip()",), seed=1)

SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0.0,
    "schedule": "constant",
}


@pytest.fixture(params=["all classes", "three classes"])
def both(request: pytest.FixtureRequest, taught: Path) -> list[Store]:
    names = ("first", "second") if request.param == "all classes" else ("narrow", "other_narrow")
    return [open_store(taught / name) for name in names]


def dense(store: Store, *, temperature: float) -> Tensor:
    """float64 raw logits of all classes [N, C]: those outside share the stored tail equally at the temperature."""
    labels = store.read(ALL)
    logits_NC = torch.full((NUM_PICTURES, NUM_CLASSES), -math.inf, dtype=torch.float64)
    kept_NK = labels.logits_BK.double()
    if store.k < NUM_CLASSES:
        tail_N = labels.log_tail_BT[:, labels.temperatures.index(temperature)].double().exp()
        weight_N = (kept_NK / temperature).exp().sum(dim=1) * tail_N / (1 - tail_N) / (NUM_CLASSES - store.k)
        logits_NC[:] = (temperature * weight_N.log())[:, None]
    logits_NC.scatter_(1, labels.class_ids_BK, kept_NK)
    return logits_NC + labels.max_logit_B.double()[:, None]


def weights_of(logits_SNC: Tensor, *, given: tuple[float, ...], weigh: str) -> Tensor:
    """[S, N], from the definitions."""
    weights_SN = torch.tensor(given, dtype=torch.float64)[:, None].expand(-1, NUM_PICTURES).clone()
    targets_N = torch.from_numpy(pictures().targets_N)
    for row in range(NUM_PICTURES):
        if weigh == "confidence":
            weights_SN[:, row] *= logits_SNC[:, row].softmax(dim=1).amax(dim=1)
        if weigh == "correctness":
            is_right_S = logits_SNC[:, row].argmax(dim=1) == targets_N[row]
            weights_SN[:, row] *= is_right_S if is_right_S.any() else 1
    return weights_SN / weights_SN.sum(dim=0)


def combined(
    stores: list[Store],
    *,
    temperature: float,
    combine: str = "probabilities",
    weigh: str = "given",
    given: Any = (0.5, 0.5),
) -> Tensor:
    """softmax(logits / T) of both teachers as one, [N, C], dense."""
    logits_SNC = torch.stack([dense(store, temperature=temperature) for store in stores])
    at_one_SNC = torch.stack([dense(store, temperature=1.0) for store in stores])
    weights_SN1 = weights_of(at_one_SNC, given=given, weigh=weigh)[:, :, None]
    if combine == "logits":
        return ((weights_SN1 * logits_SNC).sum(dim=0) / temperature).softmax(dim=1)
    return (weights_SN1 * (logits_SNC / temperature).softmax(dim=2)).sum(dim=0)


def by_hand(student: nn.Module, teacher_NC: Tensor, *, temperature: float) -> None:
    """The run of `train` on a dense teacher, in plain torch code."""
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05)
    student.train()
    for rows in ShuffledBatches(num_samples=NUM_PICTURES, batch_size=8, epochs=3, seed=0):
        logits_BC = student(images_of(pictures(), rows.source_B.tolist())) / temperature
        loss = functional.kl_div(logits_BC.log_softmax(dim=1), teacher_NC[rows.source_B].float(), reduction="batchmean")
        optimizer.zero_grad()
        (temperature**2 * loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
@pytest.mark.parametrize("weigh", ["given", "confidence", "correctness"])
def test_a_run_is_that_on_the_dense_mean_of_the_teachers(both: list[Store], combine: Any, weigh: Any) -> None:
    student, expected, others = make_student(), make_student(), make_student()
    by_hand(expected, combined(both, temperature=2.0, combine=combine, weigh=weigh), temperature=2.0)

    train(student, both, alpha=1.0, temperature=2.0, combine=combine, weigh=weigh, **SGD)

    train(others, both[:1], alpha=1.0, temperature=2.0, **SGD)
    torch.testing.assert_close(student.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(others.get_parameter("conv.weight"), expected.get_parameter("conv.weight"), atol=1e-4)


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_teachers_count_by_the_given_weights(both: list[Store], combine: Any) -> None:
    student, expected = make_student(), make_student()
    by_hand(expected, combined(both, temperature=4.0, combine=combine, given=(0.2, 0.8)), temperature=4.0)

    train(student, both, alpha=1.0, temperature=4.0, combine=combine, teacher_weight=(0.2, 0.8), **SGD)

    torch.testing.assert_close(student.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)


def test_a_teacher_of_all_the_weight_teaches_alone(both: list[Store]) -> None:
    student, alone = make_student(), make_student()

    train(student, both, teacher_weight=(0.0, 1.0), **SGD)

    train(alone, both[1], **SGD)
    torch.testing.assert_close(student.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-6)


def test_mixed_views_and_rows_of_the_stores_belong_together(tmp_path: Path) -> None:
    """Each store is asked for the same view of the same sample: a teacher beside itself changes nothing."""
    stores = [make_store(tmp_path / name, augment=FLIPS, views=3) for name in ("one", "two")]
    student, alone = make_student(), make_student()

    train(student, stores, view_order="random", **SGD)

    train(alone, stores[0], view_order="random", **SGD)
    torch.testing.assert_close(student.state_dict(), alone.state_dict(), rtol=1e-4, atol=1e-6)


def test_an_interrupted_run_goes_on_to_the_same_bits(both: list[Store], tmp_path: Path) -> None:
    expected = make_student()
    train(expected, both, weigh="confidence")

    students, _ = train_interrupted(lambda: {"small": make_student()}, both, out=tmp_path, weigh="confidence")

    student = students["small"]
    assert isinstance(student, nn.Module)
    assert same_weights(student, expected)


def test_an_interrupted_run_goes_on_only_with_the_same_stores_in_the_same_order(
    both: list[Store], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(make_student(), both, out=tmp_path, on_progress=stop_at(5), checkpoint_steps=4)

    assert json.loads((tmp_path / "run.json").read_text())["stores"] == [store.digest for store in both]
    for stores in (both[::-1], both[:1]):
        with pytest.raises(StoreMismatch, match=r"stores.*Repeat the first command to go on with it"):
            train(make_student(), stores, out=tmp_path)


# What is refused.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"teacher_weight": (1.0,)}, "1 values of `teachers.weight` for 2 stores. Give one a store", id="1"
        ),
        pytest.param({"teacher_weight": (0.2, 0.3, 0.5)}, "3 values of `teachers.weight` for 2 stores", id="3"),
        pytest.param(
            {"loss": "mse"}, "mse compares raw logits.*Say `teachers.combine = logits`", id="mse of probabilities"
        ),
    ],
)
def test_options_that_do_not_fit_two_stores_are_refused(
    first: Store, second: Store, options: Any, message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        train(make_student(), [first, second], **options)


def test_weights_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(InvalidOption, match=r"teachers\.weight = \(0\.5, 0\.6\): expected a sum of 1, not 1\.1"):
        train(make_student(), teacher_weight=(0.5, 0.6))


def test_teachers_can_not_be_weighed_by_targets_that_are_not_there(tmp_path: Path) -> None:
    source = replace(pictures(), targets_N=None)
    stores = [make_store(tmp_path / name, source=source, seed=seed) for seed, name in enumerate(("one", "two"))]

    with pytest.raises(StoreMismatch, match="weigh by confidence"):
        train(make_student(), stores, source=source, alpha=1.0, weigh="correctness")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        pytest.param({"source": pictures(count=23)}, "samples", id="other samples"),
        pytest.param({"source": pictures(class_names=("elk", "bee", "cat", "dog", "ant"))}, "class", id="class order"),
        pytest.param({"augment": FLIPS}, "views", id="another recipe"),
    ],
)
def test_stores_that_disagree_are_refused(first: Store, tmp_path: Path, other: dict[str, Any], message: str) -> None:
    store = make_store(tmp_path / "other", seed=1, **other)
    student = make_student()

    with pytest.raises(StoreMismatch, match=f"{store.path}.*{message}"):
        train(student, [first, store])
    assert same_weights(student, make_student())


def test_teachers_over_other_classes_are_refused(first: Store, tmp_path: Path) -> None:
    store = make_store(tmp_path / "other", num_classes=4, source=pictures(class_names=None), k=4)

    with pytest.raises(StoreMismatch, match=f"{store.path}.*4 classes.*5"):
        train(make_student(), [first, store], source=pictures(class_names=None))


def test_teachers_of_more_views_than_another_are_refused(tmp_path: Path) -> None:
    stores = [make_store(tmp_path / str(views), augment=FLIPS, views=views) for views in (3, 2)]

    with pytest.raises(StoreMismatch, match=f"{stores[1].path}.*has 2 views"):
        train(make_student(), stores)
