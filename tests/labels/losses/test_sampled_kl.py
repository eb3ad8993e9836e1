"""What a student learns from samples of a teacher's classes, and what can't be learnt from them."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import softlab
from softlab.errors import InvalidOption, SoftlabError, StoreMismatch
from softlab.labels.captured import confidence
from softlab.labels.class_map import ClassMap
from softlab.labels.dense import dense_probabilities
from softlab.labels.ensembles import combine, weigh
from softlab.labels.losses import LossName, Tail, decision_loss, kl_rows
from softlab.labels.losses.decision import settled_loss
from softlab.labels.mapped_labels import map_labels
from softlab.labels.row_figures import agreement, one_teacher, sureness
from softlab.labels.soft_labels import SoftLabels
from tests.labels.losses.lessons import loss_with
from tests.labels.sampled import dense_weights, make_logits, sample

# Shape letters: B rows in a batch, C classes, S repeats.

NUM_CLASSES = 300


def make_student(rows: int = 12) -> Tensor:
    return make_logits(rows=rows, num_classes=NUM_CLASSES, scale=2.0, seed=5).requires_grad_()


def make_labels(rows: int = 12, *, seed: int = 0, resolution: int = 16) -> SoftLabels:
    logits_BC = make_logits(rows=rows, num_classes=NUM_CLASSES)
    return sample(logits_BC, seed=seed, resolution=resolution)


def entropy_of(labels: SoftLabels) -> Tensor:
    assert labels.entropy_B is not None
    return labels.entropy_B


# Value and gradient.


def test_it_is_torchs_cross_entropy_with_the_weights_less_the_entropy() -> None:
    labels, student_BC = make_labels(), make_student()
    dense_BC = student_BC.detach().double().requires_grad_()

    loss = softlab.distillation_loss(student_BC, labels, temperature=1.0)
    loss.backward()  # type: ignore[no-untyped-call]

    expected = functional.cross_entropy(dense_BC, dense_weights(labels)) - entropy_of(labels).double().mean()
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss.double(), expected, rtol=0, atol=1e-5)
    assert student_BC.grad is not None
    torch.testing.assert_close(student_BC.grad.double(), dense_BC.grad, rtol=1e-5, atol=1e-8)


def test_its_gradient_is_exact_in_float64() -> None:
    labels = make_labels(rows=3)
    weights_BK = (labels.logits_BK + labels.max_logit_B[:, None]).exp().double()

    def cross_entropy(student_BC: Tensor) -> Tensor:
        from softlab.labels.losses.sampled_kl import _SampledCrossEntropy

        found: Tensor = _SampledCrossEntropy.apply(student_BC, labels.class_ids_BK, weights_BK)
        return found

    assert torch.autograd.gradcheck(cross_entropy, (make_student(rows=3).detach().double().requires_grad_(),))


def test_rows_are_those_whose_mean_it_is_and_can_be_differentiated_again() -> None:
    labels, student_BC = make_labels(), make_student()

    rows_B = kl_rows(student_BC, labels, temperature=1.0)
    (gradient_BC,) = torch.autograd.grad(rows_B.mean(), student_BC, create_graph=True)

    loss = softlab.distillation_loss(student_BC, labels, temperature=1.0)
    assert rows_B.shape == (12,)
    torch.testing.assert_close(loss, rows_B.mean())
    torch.testing.assert_close(gradient_BC, torch.autograd.grad(loss, student_BC)[0])
    assert torch.autograd.grad(gradient_BC.square().sum(), student_BC)[0].abs().sum() > 0


def test_the_written_gradient_says_that_it_cannot_be_differentiated() -> None:
    student_BC = make_student()
    loss = softlab.distillation_loss(student_BC, make_labels(), temperature=1.0)

    with pytest.raises(InvalidOption, match="Use the mean of kl_rows"):
        torch.autograd.grad(loss, student_BC, create_graph=True)


def test_samples_of_many_seeds_learn_the_full_kl() -> None:
    """A bias of 5 % of the loss, or of 6 % of the length of the gradient, would be noticed."""
    student_BC, teacher_BC = make_student(), make_logits(rows=12, num_classes=NUM_CLASSES)
    p_BC, log_q_BC = teacher_BC.double().softmax(dim=1), student_BC.double().log_softmax(dim=1)
    expected = (p_BC * (p_BC.log() - log_q_BC)).sum(dim=1).mean()
    (wanted_BC,) = torch.autograd.grad(expected, student_BC)

    losses, gradients = [], []
    for seed in range(800):
        loss = softlab.distillation_loss(student_BC, make_labels(seed=seed), temperature=1.0)
        losses.append(loss.item())
        gradients.append(torch.autograd.grad(loss, student_BC)[0].double())
    losses_S, gradients_SBC = torch.tensor(losses, dtype=torch.float64), torch.stack(gradients)

    standard = losses_S.std().item() / len(losses_S) ** 0.5
    assert abs(losses_S.mean().item() - expected.item()) < 5 * standard < 0.05 * expected.item()
    noise = (gradients_SBC.var(dim=0).sum() / len(gradients_SBC)).item()
    error = (gradients_SBC.mean(dim=0) - wanted_BC).square().sum().item()
    assert error < 2 * noise
    assert (2 * noise) ** 0.5 < 0.06 * wanted_BC.norm().item()


def test_the_class_in_an_empty_slot_is_not_looked_at() -> None:
    student_BC, labels = make_student(), make_labels()
    is_fill_BK = labels.logits_BK.isneginf()
    others = replace(labels, class_ids_BK=labels.class_ids_BK.masked_fill(is_fill_BK, 7))
    has_zero_B = ((labels.class_ids_BK == 0) & ~is_fill_BK).any(dim=1)
    sure_BC = student_BC.detach().clone()
    sure_BC[~has_zero_B, 0] = -math.inf

    assert is_fill_BK.any()
    loss = softlab.distillation_loss(student_BC, labels, temperature=1.0)
    assert loss.equal(softlab.distillation_loss(student_BC, others, temperature=1.0))
    assert softlab.distillation_loss(sure_BC, labels, temperature=1.0).isfinite()


def test_half_precision_learns_in_float32() -> None:
    student_BC = make_student().detach().bfloat16().requires_grad_()
    labels = make_labels()

    loss = softlab.distillation_loss(student_BC, labels, temperature=1.0)
    loss.backward()  # type: ignore[no-untyped-call]

    assert loss.equal(softlab.distillation_loss(student_BC.float(), labels, temperature=1.0))
    assert student_BC.grad is not None
    assert student_BC.grad.dtype == torch.bfloat16


def test_a_student_without_options_learns_at_temperature_one() -> None:
    labels, student_BC = make_labels(), make_student()
    options = settled_loss(softlab.KlLoss(), num_classes=NUM_CLASSES, head="softmax", lowest=1.0, interpolates=False)

    loss = decision_loss(student_BC, labels, options=options)

    assert loss.equal(decision_loss(student_BC, labels, options=softlab.KlLoss()))
    assert loss.equal(softlab.distillation_loss(student_BC, labels, temperature=1.0))


# What samples are not for.


@pytest.mark.parametrize("name", [name for name in get_args(LossName) if name not in ("kl", "bce")])
def test_every_other_loss_is_refused(name: LossName) -> None:
    options, targets_B = loss_with(name, temperature=1.0), torch.zeros(12, dtype=torch.int64)

    with pytest.raises(
        StoreMismatch, match=r"samples of its classes\. Use `loss\.name = kl` at `loss\.temperature = 1`"
    ):
        decision_loss(make_student(), make_labels(), targets_B=targets_B, options=options)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 4.0])
@pytest.mark.parametrize("loss", [softlab.distillation_loss, kl_rows], ids=["loss", "rows"])
def test_every_other_temperature_is_refused(loss: Callable[..., Tensor], temperature: float) -> None:
    with pytest.raises(StoreMismatch, match=r"Train with `loss\.temperature = 1`, or dump .* `dump\.selection = topk`"):
        loss(make_student(), make_labels(), temperature=temperature)


@pytest.mark.parametrize("tail", ["bucket", "renormalise", "renormalise_both"])
def test_a_tail_is_refused(tail: Tail) -> None:
    with pytest.raises(InvalidOption, match=r"have no tail\. Leave `loss\.tail` out"):
        softlab.distillation_loss(make_student(), make_labels(), temperature=1.0, tail=tail)


def combined(labels: SoftLabels) -> SoftLabels:
    both = [labels, labels]
    return combine(both, weigh(both, given=(1.0, 1.0), by="given"), by="probabilities", temperature=1.0)


FEWER = ClassMap(groups=tuple((place,) for place in range(5)), num_teacher=NUM_CLASSES, names=None)

OTHER_USES: dict[str, Callable[[SoftLabels], object]] = {
    "several teachers": combined,
    "weights by confidence": lambda labels: weigh([labels, labels], given=(1.0, 1.0), by="confidence"),
    "one teacher of several": lambda labels: one_teacher([labels, labels], given=(1.0, 1.0)),
    "how sure a row is": sureness,
    "other classes": lambda labels: map_labels(labels, FEWER, temperature=1.0),
    "a number for each class": dense_probabilities,
    "a confidence": lambda labels: confidence(labels, temperature=1.0),
    "a tail at 2": lambda labels: labels.log_tail_at(2.0),
}


@pytest.mark.parametrize("use", OTHER_USES.values(), ids=OTHER_USES)
def test_what_needs_probabilities_is_refused(use: Callable[[SoftLabels], object]) -> None:
    with pytest.raises(SoftlabError, match=r"samples of its classes\. Use `loss\.name = kl`"):
        use(make_labels())


def test_the_largest_class_is_known_nevertheless() -> None:
    assert agreement([make_labels(), make_labels(seed=1)]).all()


def test_of_few_classes_samples_are_no_whole_rows() -> None:
    labels = sample(make_logits(rows=4, num_classes=17))

    assert labels.k == labels.num_classes
    with pytest.raises(StoreMismatch, match="samples of its classes"):
        dense_probabilities(labels)
