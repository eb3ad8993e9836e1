"""What several teachers say about the same rows, as the soft labels of one."""

# Shape letters: B rows in a batch, S teachers, C classes, K entries kept by one (K <= C), E entries of all together,
# U entries of their union, the same number in every row (U <= C).

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import StoreMismatch
from softlab.labels.losses.notes import tell
from softlab.labels.losses.teacher import LOWEST, head_log_probabilities
from softlab.labels.on_device import constant
from softlab.labels.soft_labels import SoftLabels

CombineBy = Literal["probabilities", "logits"]
WeighBy = Literal["given", "confidence", "correctness"]


def combine(labels: Sequence[SoftLabels], weights_BS: Tensor, *, by: CombineBy, temperature: float) -> SoftLabels:
    """One distribution at a temperature, over the union of the classes that the teachers kept; weights from `weigh`.

    `probabilities`: the weighted arithmetic mean of the teachers' softmax(z / T). `logits`: the weighted mean of their
    raw logits z, of which softmax(z / T) is the geometric mean, rescaled to sum to 1 (Hinton, Vinyals, Dean 2015,
    section 1, name both means). A class that a teacher did not keep has an equal part of its tail, and so have all
    classes outside the union. Rows whose teachers kept the same classes are brought to the length of the others by
    classes outside the union, which changes nothing. No log of a kept class's probability is taken below -65,504. What
    is returned holds at this temperature only.

    Raises StoreMismatch for teachers over different numbers of classes, or with a sigmoid head; InvalidOption for a
    temperature below the smallest one that a teacher's tail is stored at. Warns with LittleMass and InterpolatedTail.
    """
    _check_combinable(labels)
    for each in labels:
        tell(each, loss="kl", temperature=temperature)
    tempered = [at_temperature(each, temperature) for each in labels]
    class_ids_BU, log_p_BSU = _side_by_side(labels, tempered)
    outside_BS1 = torch.stack([each.outside_B for each in tempered], dim=1)[:, :, None]
    offset_B = torch.zeros_like(labels[0].max_logit_B)
    if by == "logits":
        offset_B = (weights_BS * torch.stack([each.offset_B for each in tempered], dim=1)).sum(dim=1)
    return _ranked(
        class_ids_BU,
        _mean(log_p_BSU, weights_BS, by=by),
        outside_B=_mean(outside_BS1, weights_BS, by=by)[:, 0],
        offset_B=offset_B,
        temperature=temperature,
        num_classes=labels[0].num_classes,
        absolute=all(each.absolute for each in labels),
    )


def weigh(
    labels: Sequence[SoftLabels], *, given: Sequence[float], by: WeighBy, targets_B: Tensor | None = None
) -> Tensor:
    """The weight of each teacher in each row, float32 [B, S], rows summing to 1.

    `given`: as given. `confidence`: times the probability of the teacher's first class, at temperature 1 or the lowest
    above it that every teacher's tail is known at. `correctness`: only teachers whose first class is the hard target
    count; all of them where none is right, or the target unknown (-1). A teacher of weight 0 never counts. Raises
    StoreMismatch for correctness without targets.
    """
    first = labels[0].logits_BK
    log_weights_BS = constant(tuple(given), first.device).log().expand(len(first), -1)
    if by == "confidence":
        log_weights_BS = log_weights_BS + _log_confidence(labels)
    if by == "correctness":
        if targets_B is None:
            raise StoreMismatch(
                "teachers can't be weighed by correctness without hard targets. Give a source that has them (class "
                "folders, or a Parquet file whose column of labels is named), or weigh by confidence."
            )
        is_right_BS = torch.stack([each.class_ids_BK[:, 0] == targets_B for each in labels], dim=1)
        is_right_BS = is_right_BS & ~log_weights_BS.isneginf()
        counts_BS = is_right_BS | ~is_right_BS.any(dim=1, keepdim=True)
        log_weights_BS = log_weights_BS.masked_fill(~counts_BS, -math.inf)
    return log_weights_BS.softmax(dim=1)


class AtTemperature(NamedTuple):
    """One teacher's log-probabilities at a temperature."""

    kept_BK: Tensor
    outside_B: Tensor
    """Of each class outside; -inf if there is none."""

    offset_B: Tensor
    """What is missing from T times them to the raw logits."""


def at_temperature(labels: SoftLabels, temperature: float) -> AtTemperature:
    log_tail_B = labels.log_tail_at(temperature)
    kept_BK = head_log_probabilities(labels, temperature=temperature, log_tail_B=log_tail_B).clamp(min=LOWEST)
    outside_B = log_tail_B - math.log(max(labels.num_classes - labels.k, 1))
    return AtTemperature(kept_BK, outside_B, labels.max_logit_B - temperature * kept_BK[:, 0])


def _side_by_side(labels: Sequence[SoftLabels], tempered: Sequence[AtTemperature]) -> tuple[Tensor, Tensor]:
    """The classes of the union, [B, U], and the log-probability that each teacher gives them, [B, S, U]."""
    class_ids_BE = torch.cat([each.class_ids_BK for each in labels], dim=1)
    class_ids_BU, places_BE = _union(class_ids_BE, num_classes=labels[0].num_classes)
    places = torch.split(places_BE, [each.k for each in labels], dim=1)
    log_p = [
        each.outside_B[:, None].clamp(min=LOWEST).expand_as(class_ids_BU).scatter(1, places_BK, each.kept_BK)
        for each, places_BK in zip(tempered, places, strict=True)
    ]
    return class_ids_BU, torch.stack(log_p, dim=1)


def _union(class_ids_BE: Tensor, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """Each class once, filled up with classes outside; and the place of each entry among them."""
    num_places = class_ids_BE.shape[1]
    if num_places >= num_classes:
        return torch.arange(num_classes, device=class_ids_BE.device).expand(len(class_ids_BE), -1), class_ids_BE
    sorted_BE, order_BE = class_ids_BE.sort(dim=1)
    is_new_BE = sorted_BE.diff(dim=1, prepend=sorted_BE[:, :1]) > 0
    places_BE = torch.empty_like(order_BE).scatter(1, order_BE, is_new_BE.cumsum(dim=1))
    # The first U classes, those in the union before those outside: enough of the latter at the end to fill every row.
    is_in_BU = torch.zeros((len(class_ids_BE), num_places + 1), dtype=torch.uint8, device=class_ids_BE.device)
    is_in_BU = is_in_BU.scatter(1, class_ids_BE.clamp(max=num_places), 1)[:, :num_places]
    class_ids_BU = is_in_BU.argsort(dim=1, descending=True, stable=True)
    return class_ids_BU.scatter(1, places_BE, class_ids_BE), places_BE


def _mean(log_p_BSU: Tensor, weights_BS: Tensor, *, by: CombineBy) -> Tensor:
    """The log of the mean over teachers, or the mean of their logs; [B, U]."""
    weights_BS1 = weights_BS[:, :, None]
    if by == "probabilities":
        return (weights_BS1.log() + log_p_BSU).logsumexp(dim=1)
    return torch.where(weights_BS1 > 0, weights_BS1 * log_p_BSU, 0.0).sum(dim=1)


def _ranked(
    class_ids_BU: Tensor,
    log_mean_BU: Tensor,
    *,
    outside_B: Tensor,
    offset_B: Tensor,
    temperature: float,
    num_classes: int,
    absolute: bool,
) -> SoftLabels:
    """Soft labels of what, scaled to sum to 1, are probabilities of the union and of each class outside it."""
    log_mean_BU, order_BU = log_mean_BU.sort(dim=1, descending=True, stable=True)
    num_outside = num_classes - class_ids_BU.shape[1]
    outside_B = outside_B + (math.log(num_outside) if num_outside else -math.inf)
    return SoftLabels(
        class_ids_BK=class_ids_BU.gather(1, order_BU),
        logits_BK=temperature * (log_mean_BU - log_mean_BU[:, :1]),
        log_tail_BT=functional.logsigmoid(outside_B - log_mean_BU.logsumexp(dim=1))[:, None],
        max_logit_B=temperature * log_mean_BU[:, 0] + offset_B,
        temperatures=(temperature,),
        num_classes=num_classes,
        absolute=absolute,
    )


def _log_confidence(labels: Sequence[SoftLabels]) -> Tensor:
    """Log-probability of each teacher's first class, [B, S], all at one temperature."""
    temperature = max([1.0, *(each.temperatures[0] for each in labels if each.k < each.num_classes)])
    return torch.stack([at_temperature(each, temperature).kept_BK[:, 0] for each in labels], dim=1)


def _check_combinable(labels: Sequence[SoftLabels]) -> None:
    if len({each.num_classes for each in labels}) > 1:
        counts = ", ".join(str(each.num_classes) for each in labels)
        raise StoreMismatch(f"the teachers have {counts} classes. Combine teachers over the same classes.")
    if any(each.valid_B is not None for each in labels):
        raise StoreMismatch(
            "teachers whose rows have fewer classes than others are not combined. Train from one of their stores."
        )
    if any(each.head != "softmax" for each in labels):
        raise StoreMismatch(
            f"teachers with a softmax head are combined, but these have {', '.join(each.head for each in labels)} "
            f"heads. Train from one of them."
        )
