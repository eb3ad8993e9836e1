# Shape letters: B rows, C the teacher's classes, S the students' classes.

import math
import warnings

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption
from softlab.labels.class_map import ClassMap
from softlab.labels.losses import BinaryCrossEntropyLoss, KlLoss
from softlab.labels.mapped_labels import left_out_mass, map_labels
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels

NUM_TEACHER = 9
MAPS = {
    "reordered": ((3,), (0,), (8,), (1,), (2,), (4,), (5,), (7,), (6,)),
    "some": ((4,), (0,), (7,)),
    "without the first": tuple((place,) for place in range(1, NUM_TEACHER)),
    "merged": ((4, 5, 6), (0,), (7, 1)),
    "all merged": ((0, 1, 2, 3), (4, 5, 6, 7, 8)),
}


def class_map(name: str) -> ClassMap:
    return ClassMap(groups=MAPS[name], num_teacher=NUM_TEACHER, names=None)


def raw_logits() -> Tensor:
    return 3 + 2 * torch.randn((30, NUM_TEACHER), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def labels_of(logits_BC: Tensor, *, k: int) -> SoftLabels:
    return keep_top_k(logits_BC.float(), k=k, temperatures=(1.0, 4.0))


def expected(logits_BC: Tensor, classes: ClassMap, *, k: int, temperature: float) -> Tensor:
    """float64 probabilities [B, S], from the definition."""
    p_BC = (logits_BC / temperature).softmax(dim=1)
    order_BC = logits_BC.argsort(dim=1, descending=True)
    if k < NUM_TEACHER:
        tail_BC = p_BC.gather(1, order_BC[:, k:])
        p_BC = p_BC.scatter(1, order_BC[:, k:], tail_BC.mean(dim=1, keepdim=True).expand_as(tail_BC))
    p_BS = torch.stack([p_BC[:, list(group)].sum(dim=1) for group in classes.groups], dim=1)
    return p_BS / p_BS.sum(dim=1, keepdim=True)


def dense(labels: SoftLabels) -> Tensor:
    """Logits in the order of the classes, [B, S]."""
    assert labels.k == labels.num_classes
    return torch.empty_like(labels.logits_BK).scatter(1, labels.class_ids_BK, labels.logits_BK)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("k", [2, 5, NUM_TEACHER])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_probabilities_are_summed_and_what_is_left_out_does_not_count(name: str, k: int, temperature: float) -> None:
    logits_BC, classes = raw_logits(), class_map(name)

    found = map_labels(labels_of(logits_BC, k=k), classes, temperature=temperature)

    p_BS = (dense(found).double() / temperature).softmax(dim=1)
    torch.testing.assert_close(p_BS, expected(logits_BC, classes, k=k, temperature=temperature), rtol=1e-4, atol=1e-6)
    assert (found.logits_BK.diff(dim=1) <= 0).all(), "the largest comes first"
    assert (found.logits_BK[:, 0] == 0).all()


@pytest.mark.parametrize("name", MAPS)
def test_the_loss_is_that_of_dense_probabilities(name: str) -> None:
    logits_BC, classes = raw_logits(), class_map(name)
    student_BS = torch.randn((30, classes.num_classes), generator=torch.Generator().manual_seed(4))

    loss = KlLoss(temperature=4.0)(student_BS, map_labels(labels_of(logits_BC, k=5), classes, temperature=4.0))

    log_q_BS = (student_BS.double() / 4).log_softmax(dim=1)
    p_BS = expected(logits_BC, classes, k=5, temperature=4.0)
    assert loss.item() == pytest.approx(16 * functional.kl_div(log_q_BS, p_BS, reduction="batchmean").item(), rel=1e-4)


@pytest.mark.parametrize("name", ["reordered", "some", "without the first"])
def test_one_class_for_one_of_a_whole_teacher_has_its_own_logits_at_any_temperature(name: str) -> None:
    logits_BC, classes = raw_logits(), class_map(name)
    own_BS = logits_BC[:, [place for (place,) in classes.groups]]

    found = map_labels(labels_of(logits_BC, k=NUM_TEACHER), classes, temperature=1.0)

    torch.testing.assert_close((dense(found) + found.max_logit_B[:, None]).double(), own_BS, rtol=1e-5, atol=1e-5)
    p_BS = (dense(found).double() / 4).softmax(dim=1)
    torch.testing.assert_close(p_BS, (own_BS / 4).softmax(dim=1), rtol=1e-5, atol=1e-6)


def test_merged_classes_add_up_also_where_they_are_next_to_nothing() -> None:
    logits_BC = torch.zeros((1, NUM_TEACHER), dtype=torch.float64)
    logits_BC[0, 0], logits_BC[0, 4:7], logits_BC[0, 1] = 200.0, torch.tensor([-10.0, -11.0, -12.0]), 5.0

    found = map_labels(labels_of(logits_BC, k=NUM_TEACHER), class_map("merged"), temperature=1.0)

    merged = torch.tensor([-10.0, -11.0, -12.0], dtype=torch.float64).logsumexp(dim=0) - 200
    assert dense(found)[0, 0].item() == pytest.approx(merged.item(), rel=1e-6)


@pytest.mark.parametrize("k", [5, NUM_TEACHER])
def test_what_is_left_out_is_told(k: int) -> None:
    logits_BC, classes = raw_logits(), class_map("some")

    left_out_B = left_out_mass(labels_of(logits_BC, k=k), classes, temperature=1.0)

    whole = ClassMap(groups=tuple((place,) for place in range(NUM_TEACHER)), num_teacher=NUM_TEACHER, names=None)
    p_BC = expected(logits_BC, whole, k=k, temperature=1.0)
    torch.testing.assert_close(left_out_B.double(), 1 - p_BC[:, [4, 0, 7]].sum(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [5, NUM_TEACHER])
def test_under_a_sigmoid_head_each_class_keeps_its_own_probability(k: int) -> None:
    logits_BC, classes = raw_logits() - 3, class_map("some")
    labels = keep_top_k(logits_BC.float(), k=k, temperatures=(1.0, 2.0), head="sigmoid")
    student_BS = torch.randn((30, 3), generator=torch.Generator().manual_seed(4))

    loss = BinaryCrossEntropyLoss(temperature=2.0)(student_BS, map_labels(labels, classes, temperature=2.0))

    p_BC = (logits_BC / 2).sigmoid()
    if k < NUM_TEACHER:
        outside_BC = logits_BC.argsort(dim=1, descending=True)[:, k:]
        mean_B1 = p_BC.gather(1, outside_BC).mean(dim=1, keepdim=True)
        p_BC = p_BC.scatter(1, outside_BC, mean_B1.expand_as(outside_BC))
    reference = functional.binary_cross_entropy_with_logits(student_BS.double() / 2, p_BC[:, [4, 0, 7]])
    assert loss.item() == pytest.approx(4 * reference.item(), rel=1e-4)


def test_a_tail_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidOption, match="a tail can't be rebuilt below"):
        map_labels(labels_of(raw_logits(), k=5), class_map("some"), temperature=0.5)


def test_gradients_of_a_row_whose_classes_are_all_left_out_are_finite() -> None:
    """Of such a row only the equal tail is left."""
    logits_BC = torch.full((1, NUM_TEACHER), -1e4, dtype=torch.float64)
    logits_BC[0, 3] = 1e4
    student_BS = torch.zeros((1, 3), requires_grad=True)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = map_labels(labels_of(logits_BC, k=2), class_map("some"), temperature=1.0)
        KlLoss(temperature=1.0)(student_BS, labels).backward()  # type: ignore[no-untyped-call]

    assert student_BS.grad is not None
    assert math.isfinite(student_BS.grad.sum().item())
