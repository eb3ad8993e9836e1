"""Losses of logits that are computed some rows at a time, against the same of all at once."""

import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import softlab
from softlab.labels.dense import dense_probabilities
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses.chunked import chunked_loss
from softlab.labels.losses.compared import forward_term
from softlab.labels.soft_labels import SoftLabels
from tests.labels.sampled import make_logits, sample, weights_of

# Shape letters: R rows, r of them in a chunk, D width, C classes.

ROWS, WIDTH, NUM_CLASSES = 23, 7, 120
RowsLoss = Callable[[Tensor, slice], Tensor]


def make_lazy(**change: float) -> LazyLogits:
    generator = torch.Generator().manual_seed(0)
    shapes = (ROWS, WIDTH), (NUM_CLASSES, WIDTH), (NUM_CLASSES,)
    hidden, weight_CD, bias_C = (
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes
    )
    return replace(LazyLogits(hidden=hidden, weight_CD=weight_CD, bias_C=bias_C), **change)  # type: ignore[arg-type]


def gradients_of(loss: Tensor, logits: LazyLogits) -> list[Tensor]:
    assert logits.bias_C is not None
    return list(torch.autograd.grad(3 * loss, (logits.hidden, logits.weight_CD, logits.bias_C)))


def cross_entropy(logits_rC: Tensor, rows: slice) -> Tensor:
    targets_R = torch.arange(ROWS) * 5 % NUM_CLASSES
    return functional.cross_entropy(logits_rC, targets_R[rows], reduction="sum") / ROWS


def sampled_kl(logits_rC: Tensor, rows: slice) -> Tensor:
    labels = sample(make_logits(rows=ROWS, num_classes=NUM_CLASSES))
    log_q_rK = logits_rC.log_softmax(dim=1).gather(1, labels.class_ids_BK[rows])
    return -(weights_of(labels)[rows] * log_q_rK).sum() / ROWS


def top_k_kl(logits_rC: Tensor, rows: slice) -> Tensor:
    """With a uniform tail, of a dense teacher in float64."""
    labels = softlab.keep_top_k(make_logits(rows=ROWS, num_classes=NUM_CLASSES), k=8, temperatures=(1.0,))
    log_p_rC = dense_probabilities(labels).double().log()[rows]
    return forward_term(log_p_rC, logits_rC.log_softmax(dim=1)).sum() / ROWS


LOSSES: dict[str, RowsLoss] = {"cross-entropy": cross_entropy, "sampled kl": sampled_kl, "top-k kl": top_k_kl}


@pytest.mark.parametrize("rows", [1, 4, 23, 100, None])
@pytest.mark.parametrize("loss_of_rows", LOSSES.values(), ids=LOSSES)
def test_loss_and_gradients_are_those_of_whole_logits(loss_of_rows: RowsLoss, rows: int | None) -> None:
    lazy, dense = make_lazy(), make_lazy()

    loss = chunked_loss(lazy, loss_of_rows, rows=rows)

    expected = loss_of_rows(dense.whole(), slice(0, ROWS))
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-10)
    for found, wanted in zip(gradients_of(loss, lazy), gradients_of(expected, dense), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "change", [{"scale": 0.3}, {"softcap": 4.0}, {"num_classes": 117}], ids=["scale", "softcap", "padded vocabulary"]
)
def test_so_they_are_of_models_that_do_more_than_multiply(change: dict[str, float]) -> None:
    lazy, dense = make_lazy(**change), make_lazy(**change)

    loss = chunked_loss(lazy, cross_entropy, rows=5)

    expected = cross_entropy(dense.whole(), slice(0, ROWS))
    for found, wanted in zip(gradients_of(loss, lazy), gradients_of(expected, dense), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_stored_rows_are_learnt_in_parts() -> None:
    labels = sample(make_logits(rows=ROWS, num_classes=NUM_CLASSES))
    lazy = replace(make_lazy(), hidden=make_lazy().hidden.detach().float().requires_grad_())

    def of_rows(logits_rC: Tensor, rows: slice) -> Tensor:
        part = part_of(labels, rows)
        return softlab.distillation_loss(logits_rC, part, temperature=1.0) * len(part) / ROWS

    loss = chunked_loss(lazy, of_rows, rows=6)

    torch.testing.assert_close(loss, softlab.distillation_loss(lazy.whole(), labels, temperature=1.0))


def part_of(labels: SoftLabels, rows: slice) -> SoftLabels:
    return labels.with_each(lambda each: each[rows])


def test_what_is_not_learnt_has_no_gradient() -> None:
    lazy = make_lazy()
    frozen = replace(lazy, weight_CD=lazy.weight_CD.detach(), bias_C=None)

    (gradient_RD,) = torch.autograd.grad(chunked_loss(frozen, cross_entropy, rows=5), lazy.hidden)

    dense = make_lazy()
    expected = cross_entropy(replace(dense, bias_C=None).whole(), slice(0, ROWS))
    torch.testing.assert_close(gradient_RD, torch.autograd.grad(expected, dense.hidden)[0], rtol=1e-10, atol=1e-10)


def test_without_gradients_only_the_loss_is_computed() -> None:
    lazy = make_lazy()

    with torch.no_grad():
        loss = chunked_loss(lazy, cross_entropy, rows=5)

    assert not loss.requires_grad
    torch.testing.assert_close(loss, cross_entropy(lazy.whole(), slice(0, ROWS)).detach())


def test_no_rows_lose_nothing() -> None:
    loss = chunked_loss(make_lazy()[0:0], cross_entropy)

    assert loss.item() == 0
    loss.backward()  # type: ignore[no-untyped-call]


def test_under_autocast_the_gradients_are_close_and_of_their_own_type() -> None:
    lazy = make_lazy()
    lazy = replace(
        lazy,
        hidden=lazy.hidden.detach().float().requires_grad_(),
        weight_CD=lazy.weight_CD.detach().float().requires_grad_(),
        bias_C=lazy.bias_C.detach().float().requires_grad_() if lazy.bias_C is not None else None,
    )

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = chunked_loss(lazy, cross_entropy, rows=5)

    expected = cross_entropy(lazy.whole(), slice(0, ROWS))
    for found, wanted in zip(gradients_of(loss, lazy), gradients_of(expected, lazy), strict=True):
        assert found.dtype == torch.float32
        assert (found - wanted).norm() < 0.02 * wanted.norm()


def test_the_logits_of_a_chunk_are_gone_before_the_next_are_made() -> None:
    seen: list[weakref.ref[Tensor]] = []

    def loss_of_rows(logits_rC: Tensor, rows: slice) -> Tensor:
        assert all(each() is None for each in seen)
        seen.append(weakref.ref(logits_rC))
        return cross_entropy(logits_rC, rows)

    chunked_loss(make_lazy(), loss_of_rows, rows=4).backward()  # type: ignore[no-untyped-call]

    assert len(seen) == 6
