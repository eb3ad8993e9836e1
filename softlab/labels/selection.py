"""Choose what to keep of a teacher's logits, and measure exactly what is left out. Runs on the logits' own device."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C), T temperatures.

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption
from softlab.labels.soft_labels import SoftLabels


def keep_top_k(logits_BC: Tensor, *, k: int, temperatures: Sequence[float] = (1.0, 2.0, 4.0)) -> SoftLabels:
    """The k largest logits of each row and the log tail mass at each temperature, computed in float32.

    Of equal logits the kept ones stand in the order of their class ids. Logits must be finite; a teacher's loop checks
    that, because here the check would stop a GPU. Raises InvalidOption if k is not in 1..C or a temperature is not a
    positive number.
    """
    num_classes = logits_BC.shape[1]
    check_k(k, num_classes=num_classes)
    temperatures = sorted_temperatures(temperatures)
    logits_BC = logits_BC.float()
    logits_BK, class_ids_BK = logits_BC.topk(k, dim=1)
    logits_BK, class_ids_BK = _ties_by_class_id(logits_BK, class_ids_BK)
    max_logit_B = logits_BK[:, 0]
    logits_BK = logits_BK - max_logit_B[:, None]
    tail_BC = (logits_BC - max_logit_B[:, None]).scatter_(1, class_ids_BK, -math.inf)
    return SoftLabels(
        class_ids_BK=class_ids_BK,
        logits_BK=logits_BK,
        log_tail_BT=torch.stack([_log_tail(logits_BK / t, tail_BC / t) for t in temperatures], dim=1),
        max_logit_B=max_logit_B,
        temperatures=temperatures,
        num_classes=num_classes,
    )


def check_k(k: int, *, num_classes: int) -> None:
    """Raises InvalidOption unless 1 <= k <= C."""
    if not 1 <= k <= num_classes:
        raise InvalidOption(f"k = {k}: the teacher has {num_classes} classes. Choose --k from 1 to {num_classes}.")


def sorted_temperatures(temperatures: Sequence[float]) -> tuple[float, ...]:
    """Ascending and without repeats. Raises InvalidOption for none, or for one that is not a positive number."""
    wrong = [temperature for temperature in temperatures if not 0 < temperature < math.inf]
    if wrong or not temperatures:
        raise InvalidOption(
            f"temperatures {list(temperatures)}: expected one or more positive numbers, as in "
            f"--temperature 1 --temperature 4."
        )
    return tuple(sorted({float(temperature) for temperature in temperatures}))


def _ties_by_class_id(logits_BK: Tensor, class_ids_BK: Tensor) -> tuple[Tensor, Tensor]:
    """`topk` leaves the order of equal values open; a store must not depend on it."""
    by_id_BK = class_ids_BK.argsort(dim=1)
    by_logit_BK = logits_BK.gather(1, by_id_BK).argsort(dim=1, descending=True, stable=True)
    order_BK = by_id_BK.gather(1, by_logit_BK)
    return logits_BK.gather(1, order_BK), class_ids_BK.gather(1, order_BK)


def _log_tail(head_BK: Tensor, tail_BC: Tensor) -> Tensor:
    """From the odds of tail against head, both relative to the largest logit: precise for a tail of 1e-30 and for one
    of nearly 1, and never positive. 1 - sum(kept), or a difference of raw log-sum-exps, would lose those digits."""
    return functional.logsigmoid(tail_BC.logsumexp(dim=1) - head_BK.logsumexp(dim=1))
