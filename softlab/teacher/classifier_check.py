"""Does an output that is taken for logits over classes look like some? An embedding, or probabilities, would pass.

Both would train students without an error, on labels that mean nothing: the largest of 512 numbers of an embedding is
nobody's class, and the softmax of probabilities is nearly uniform.
"""

# Shape letters: R rows, C classes, K entries kept.

from torch import Tensor

from softlab.errors import TeacherError
from softlab.models.outputs import WantedOutput

SUM_TOLERANCE = 1e-2
"""By which probabilities in half precision may miss 1."""

MIN_CLASSES = 64
"""Of fewer classes an untrained model, too, has much of its mass in the classes that are kept."""

NEAR_UNIFORM = 1.5
"""A classifier's kept classes have many times the mass that as many of all classes have: 16 of 1,000 have 0.90 on
photographs, where 0.016 is their share. 16 of the 512 numbers of an embedding had 0.039, where the share is 0.031."""

LIKE_AN_EMBEDDING = 8.0
"""As `NEAR_UNIFORM`, for rows that are like those of an embedding in another way too: none of their numbers is
negative, as after a ReLU, or all rows have the same length, as after a normalisation. 16 of 512 had 0.06 after a ReLU,
and 0.20 after a LayerNorm."""

SAME_LENGTH = 1e-3
"""By which the lengths of normalised rows may differ, relative to them."""


def check_is_classifier(wanted: WantedOutput, logits_RC: Tensor, *, k: int, head: str) -> None:
    """Raises TeacherError for a single logit under a softmax. Unless the user has named the kind, also for rows that
    are probabilities, or whose mass is spread as if they were no classes at all."""
    if logits_RC.shape[1] == 1 and head == "softmax":
        raise TeacherError(
            f"output {wanted.name}: has one number a row, and the softmax over one class is 1 whatever that is. If it "
            f"is the logit of a yes or no, say `dump.head = sigmoid`, then train with `loss.name = bce` and "
            f"`teachers.alpha = 1`. If it is a score of a regression, say `dump.output = {wanted.name}:values`."
        )
    if wanted.is_sure or head != "softmax" or len(logits_RC) == 0:
        return
    name, num_classes = wanted.name, logits_RC.shape[1]
    if are_probabilities(logits_RC):
        raise TeacherError(
            f"output {name}: its rows lie in 0..1 and sum to 1, so they are probabilities already, not logits. Take "
            f"the layer before the softmax with `dump.output = {name}=layer:LAYER`, store them as they are with "
            f"`dump.output = {name}:values`, or say `dump.output = {name}:classes` if they are logits all the same."
        )
    share, mass = k / num_classes, _captured_mass(logits_RC, k=k)
    times = LIKE_AN_EMBEDDING if _is_like_an_embedding(logits_RC) else NEAR_UNIFORM
    if num_classes >= MIN_CLASSES and k < num_classes // 4 and mass < times * share:
        raise TeacherError(
            f"output {name}: the {k} largest of its {num_classes:,} numbers have {mass:.3f} of the probability, where "
            f"any {k} would have {share:.3f}: they look like those of an embedding, not like logits over classes. "
            f"Store it as it is with `dump.output = {name}:values`, or say `dump.output = {name}:classes` if these are "
            f"classes all the same (of a model without weights, for example)."
        )


def are_probabilities(logits_RC: Tensor) -> bool:
    """Whether all rows lie in 0..1 and sum to 1."""
    in_range = bool(((logits_RC >= 0) & (logits_RC <= 1 + SUM_TOLERANCE)).all())
    return logits_RC.shape[1] > 1 and in_range and bool(((logits_RC.sum(dim=1) - 1).abs() < SUM_TOLERANCE).all())


def _is_like_an_embedding(logits_RC: Tensor) -> bool:
    lengths_R = logits_RC.float().norm(dim=1)
    have_one_length = len(lengths_R) > 1 and bool((lengths_R - lengths_R[0]).abs().max() < SAME_LENGTH * lengths_R[0])
    return have_one_length or bool((logits_RC >= 0).all())


def _captured_mass(logits_RC: Tensor, *, k: int) -> float:
    return logits_RC.float().softmax(dim=1).topk(k, dim=1).values.sum(dim=1).mean().item()
