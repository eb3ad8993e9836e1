"""Choose what to keep of a teacher's logits, and measure exactly what is left out. Runs on the logits' own device."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), T temperatures.

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption
from softlab.labels.bits import pack_bits
from softlab.labels.largest import largest
from softlab.labels.soft_labels import Head, SoftLabels


def keep_top_k(
    logits_BC: Tensor,
    *,
    k: int,
    temperatures: Sequence[float] = (1.0, 2.0, 4.0),
    head: Head = "softmax",
    has_valid: bool = False,
    masked: bool = False,
) -> SoftLabels:
    """The k largest logits of each row and the log tail at each temperature, computed in float32.

    The tail is a mass under a softmax head and a mean probability under a sigmoid head, see `SoftLabels`. Of equal
    logits the kept ones stand in the order of their class ids. Logits must be finite; a teacher's loop checks that,
    because here the check would stop a GPU. With `has_valid`, classes at the end of a row that are -inf are not classes
    of that row: `valid_B` says how many it has. With `masked` that holds of any class that is -inf. Raises
    InvalidOption if k is not in 1..C or a temperature is not a positive number.
    """
    num_classes = logits_BC.shape[1]
    check_k(k, num_classes=num_classes)
    temperatures = sorted_temperatures(temperatures)
    logits_BC = logits_BC.float()
    valid_B, valid_bits_BW = _count_valid(logits_BC) if has_valid else None, None
    if masked:
        is_valid_BC = ~logits_BC.isneginf()
        valid_B, valid_bits_BW = is_valid_BC.sum(dim=1), pack_bits(is_valid_BC)
    logits_BK, class_ids_BK = largest(logits_BC, k)
    logits_BK, class_ids_BK = ties_by_class_id(logits_BK, class_ids_BK)
    measure_tail = _log_mean_sigmoid if head == "sigmoid" else _log_tail_mass
    return SoftLabels(
        class_ids_BK=class_ids_BK,
        logits_BK=logits_BK - logits_BK[:, :1],
        log_tail_BT=measure_tail(logits_BC, class_ids_BK, temperatures),
        max_logit_B=logits_BK[:, 0],
        temperatures=temperatures,
        num_classes=num_classes,
        head=head,
        valid_B=valid_B,
        valid_bits_BW=valid_bits_BW,
    )


def _count_valid(logits_BC: Tensor) -> Tensor:
    """int64 [B], the classes up to the last one that isn't -inf."""
    counts_C = torch.arange(1, logits_BC.shape[1] + 1, device=logits_BC.device)
    return (counts_C * ~logits_BC.isneginf()).amax(dim=1)


def check_k(k: int, *, num_classes: int) -> None:
    """Raises InvalidOption unless 1 <= k <= C."""
    if not 1 <= k <= num_classes:
        raise InvalidOption(f"k = {k}: the teacher has {num_classes} classes. Choose `dump.k` from 1 to {num_classes}.")


def sorted_temperatures(temperatures: Sequence[float]) -> tuple[float, ...]:
    """Ascending and without repeats. Raises InvalidOption for none, or for one that is not a positive number."""
    wrong = [temperature for temperature in temperatures if not 0 < temperature < math.inf]
    if wrong or not temperatures:
        raise InvalidOption(
            f"temperatures {list(temperatures)}: expected one or more positive numbers, as in "
            f"`dump.temperature = [1, 4]`."
        )
    return tuple(sorted({float(temperature) for temperature in temperatures}))


def ties_by_class_id(logits_BK: Tensor, class_ids_BK: Tensor) -> tuple[Tensor, Tensor]:
    """`topk` leaves the order of equal values open; a store must not depend on it."""
    if logits_BK.device.type == "cpu" and not (logits_BK[:, 1:] == logits_BK[:, :-1]).any():
        return logits_BK, class_ids_BK
    by_id_BK = class_ids_BK.argsort(dim=1)
    by_logit_BK = logits_BK.gather(1, by_id_BK).argsort(dim=1, descending=True, stable=True)
    order_BK = by_id_BK.gather(1, by_logit_BK)
    return logits_BK.gather(1, order_BK), class_ids_BK.gather(1, order_BK)


def _log_tail_mass(logits_BC: Tensor, class_ids_BK: Tensor, temperatures: Sequence[float]) -> Tensor:
    """From the odds of tail against head, both relative to the largest logit: precise for a tail of 1e-30 and for one
    of nearly 1, and never positive. 1 - sum(kept), or a difference of raw log-sum-exps, would lose those digits."""
    largest_B1 = logits_BC.gather(1, class_ids_BK[:, :1])
    head_BK = logits_BC.gather(1, class_ids_BK) - largest_B1
    gaps_BC = logits_BC.scatter(1, class_ids_BK, -math.inf)
    largest_left_B1 = gaps_BC.amax(dim=1, keepdim=True).clamp_(min=torch.finfo(gaps_BC.dtype).min)  # K = C leaves none
    gaps_BC -= largest_left_B1
    gap_B = (largest_left_B1 - largest_B1)[:, 0]
    tails, heads = _sums_of_exp(gaps_BC, temperatures), _sums_of_exp(head_BK, temperatures)
    log_odds = [
        gap_B / t + (tail_B / head_B).log() for t, tail_B, head_B in zip(temperatures, tails, heads, strict=True)
    ]
    return functional.logsigmoid(torch.stack(log_odds, dim=1))


def _sums_of_exp(gaps_BC: Tensor, temperatures: Sequence[float]) -> list[Tensor]:
    """Of exp(gap / t) over the classes, for each temperature; gaps are to a largest one, so 0 or less. In their memory,
    as touching new memory costs more than the arithmetic. At half a temperature each is the square of what it was,
    which is rounded as well as another exp."""
    sums: dict[float, Tensor] = {}
    no_doubles = [t for t in temperatures if 2 * t not in temperatures]
    for t in no_doubles:
        powers_BC = torch.div(gaps_BC, t, out=gaps_BC if t == no_doubles[-1] else None).exp_()
        sums[t] = powers_BC.sum(dim=1)
        while (t := t / 2) in temperatures:
            sums[t] = powers_BC.square_().sum(dim=1)
    return [sums[t] for t in temperatures]


def _log_mean_sigmoid(logits_BC: Tensor, class_ids_BK: Tensor, temperatures: Sequence[float]) -> Tensor:
    """The mean is over the classes not kept; of raw logits, as a sigmoid knows no shift."""
    tail_BC = logits_BC.scatter(1, class_ids_BK, -math.inf)
    log_sums = [functional.logsigmoid(tail_BC / t).logsumexp(dim=1) for t in temperatures]
    num_tail = logits_BC.shape[1] - class_ids_BK.shape[1]
    return (torch.stack(log_sums, dim=1) - math.log(max(num_tail, 1))).clamp(max=0)
