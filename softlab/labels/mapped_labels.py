"""What a teacher says over the classes of its students."""

# Shape letters: B rows in a batch, C the teacher's classes, S the students' classes, M those of C that are in S.

import math
from dataclasses import replace

import torch
from torch import Tensor

from softlab.labels.class_map import ClassMap
from softlab.labels.ensembles import at_temperature
from softlab.labels.losses.teacher import LOWEST
from softlab.labels.on_device import constant
from softlab.labels.soft_labels import SoftLabels, log_odds


def map_labels(labels: SoftLabels, classes: ClassMap, *, temperature: float) -> SoftLabels:
    """The same rows over the students' classes, all of which are kept.

    At this temperature T the probability of a student's class is the sum of softmax(z / T) over the teacher's classes
    that it is, divided by that of all classes that are mapped: what is left out doesn't count. Those that the teacher
    did not keep share its tail equally, as everywhere. Of one class for one, and a teacher that kept all, the logits
    are the teacher's own, and so right at any temperature; else at T alone. Under a sigmoid head each class stands for
    itself, and nothing is divided; merged classes have no probability there. Raises InvalidOption for a tail that isn't
    known at T; warns with InterpolatedTail.
    """
    if labels.head == "sigmoid":
        logits_BS, largest_B = _by_itself(labels, classes, temperature=temperature), None
    else:
        logits_BS, largest_B = _normalised(labels, classes, temperature=temperature)
    logits_BS, class_ids_BS = logits_BS.sort(dim=1, descending=True, stable=True)
    first_B = logits_BS[:, 0]
    return replace(
        labels.alone(),
        class_ids_BK=class_ids_BS,
        logits_BK=logits_BS - first_B[:, None],
        log_tail_BT=torch.full_like(labels.log_tail_BT, -math.inf),
        max_logit_B=first_B if largest_B is None else largest_B,
        num_classes=classes.num_classes,
    )


def left_out_mass(labels: SoftLabels, classes: ClassMap, *, temperature: float) -> Tensor:
    """The probability of all classes of the teacher that are none of the students', float32 [B]. Softmax heads."""
    log_p_BC, _ = _dense(labels, temperature=temperature)
    is_left_out_C = torch.ones(classes.num_teacher, dtype=torch.bool)
    is_left_out_C[[place for group in classes.groups for place in group]] = False
    return log_p_BC[:, is_left_out_C.to(log_p_BC.device)].exp().sum(dim=1)


def _normalised(labels: SoftLabels, classes: ClassMap, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Logits whose softmax at T is what is asked for, and the largest one with the teacher's level."""
    log_p_BC, offset_B = _dense(labels, temperature=temperature)
    log_p_BS = _summed(log_p_BC, classes).clamp(min=LOWEST)
    return temperature * log_p_BS, temperature * log_p_BS.amax(dim=1) + offset_B


def _by_itself(labels: SoftLabels, classes: ClassMap, *, temperature: float) -> Tensor:
    """Raw logits of one class for one; one that isn't kept has the mean probability of those that aren't."""
    tail_B = (temperature * log_odds(labels.log_tail_at(temperature))).clamp(min=LOWEST)
    dense_BC = tail_B[:, None].expand(-1, labels.num_classes)
    dense_BC = dense_BC.scatter(1, labels.class_ids_BK, labels.logits_BK + labels.max_logit_B[:, None])
    return dense_BC.index_select(1, _indices([place for (place,) in classes.groups], dense_BC.device))


def _dense(labels: SoftLabels, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of all classes, [B, C], and what is missing from T times them to the raw logits."""
    found = at_temperature(labels, temperature)
    outside_BC = found.outside_B.clamp(min=LOWEST)[:, None].expand(-1, labels.num_classes)
    return outside_BC.scatter(1, labels.class_ids_BK, found.kept_BK), found.offset_B


def _summed(log_p_BC: Tensor, classes: ClassMap) -> Tensor:
    """The log of the sum over each group, [B, S]; of one class the very same value."""
    order_M = [place for group in classes.groups for place in group]
    log_p_BM = log_p_BC.index_select(1, _indices(order_M, log_p_BC.device))
    if not classes.merges:
        return log_p_BM
    of_M = [number for number, group in enumerate(classes.groups) for _ in group]
    group_BM = _indices(of_M, log_p_BM.device).expand_as(log_p_BM)
    empty_BS = log_p_BM.new_full((len(log_p_BM), classes.num_classes), -math.inf)
    largest_BS = empty_BS.scatter_reduce(1, group_BM, log_p_BM, reduce="amax")
    shares_BM = (log_p_BM - largest_BS.gather(1, group_BM)).exp()
    return largest_BS + torch.zeros_like(largest_BS).scatter_add(1, group_BM, shares_BM).log()


def _indices(classes: list[int], device: torch.device) -> Tensor:
    return constant(tuple(classes), device, dtype=torch.int64)
