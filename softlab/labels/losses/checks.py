"""Whether a student, labels and options fit a loss; every loss asks here before it computes."""

# Shape letters: B rows in a batch, C classes.

from typing import Literal

from torch import Tensor

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.soft_labels import Head, SoftLabels

Tail = Literal["uniform", "bucket", "renormalise", "renormalise_both"]
"""What the classes outside the kept ones are taken to be; each loss says what it makes of it."""

DROPS_TAIL: tuple[Tail, ...] = ("renormalise", "renormalise_both")
"""Those that don't look at how much probability is outside, so that any temperature will do."""

TAKE_VALID = ("kl", "hinge", "argmax")
"""Losses that know rows with fewer classes than C. The others give every class a share of something."""

LOWEST = -1e30
"""0 as a probability, and finite."""

LOSSES_FOR: dict[Head, str] = {"softmax": "kl, or mse on the logits", "sigmoid": "bce, or mse on the logits"}


NO_LEVEL = (
    "{loss} compares raw logits, but of this teacher only probabilities are known, which are the same for logits that "
    "are all higher by 1. Use `loss.name = kl`."
)


def check_fit(student_logits_BC: Tensor, labels: SoftLabels, *, loss: str, head: Head = "softmax") -> None:
    """Raises StoreMismatch unless the student has the teacher's classes and the loss is for the teacher's head."""
    check_same_classes(student_logits_BC, labels)
    check_labels(labels, loss=loss, head=head)


def check_labels(labels: SoftLabels, *, loss: str, head: Head = "softmax") -> None:
    """Raises StoreMismatch, as `check_fit`, for what is about labels alone."""
    check_head(labels.head, expected=head, loss=loss)
    check_all_valid(labels, loss=loss)
    check_takes_samples(labels, loss=loss)


def check_takes_samples(labels: SoftLabels, *, loss: str) -> None:
    """Raises StoreMismatch where labels are samples of a teacher's classes and the loss is another than kl."""
    if loss != "kl":
        labels.check_kept_largest(f"{loss} as a loss")


def check_all_valid(labels: SoftLabels, *, loss: str) -> None:
    """Raises StoreMismatch where rows have fewer classes than C and the loss doesn't know that."""
    if labels.valid_B is not None and loss not in TAKE_VALID:
        raise StoreMismatch(
            f"{loss} is for rows that all have the same classes, but these labels have rows with fewer of them. "
            f"Choose as `loss.name` {' or '.join(TAKE_VALID)}."
        )


def finite_where_not_valid(student_logits_BC: Tensor, labels: SoftLabels) -> Tensor:
    """float32. Where a row has no class a student may give -inf, as its teacher does; no probability times the
    logarithm of none would then be NaN."""
    student_BC = student_logits_BC.float()
    return student_BC if labels.valid_B is None else student_BC.clamp(min=LOWEST)


def check_absolute(labels: SoftLabels, *, loss: str) -> None:
    """Raises StoreMismatch where only probabilities are known of the teacher, which don't tell the level of logits."""
    if not labels.absolute:
        raise StoreMismatch(NO_LEVEL.format(loss=loss))


def check_head(found: Head, *, expected: Head, loss: str) -> None:
    """Raises StoreMismatch, naming the losses that are, unless the loss is for the head that labels come from."""
    if found != expected:
        raise StoreMismatch(
            f"{loss} is for teachers with a {expected} head, but these labels come from a {found} head. "
            f"Choose as `loss.name` {LOSSES_FOR[found]}."
        )


def check_same_classes(student_logits_BC: Tensor, labels: SoftLabels) -> None:
    """Raises StoreMismatch unless the student's logits have the teacher's number of classes."""
    if student_logits_BC.shape[1] != labels.num_classes:
        raise StoreMismatch(
            f"the student has {student_logits_BC.shape[1]} outputs, but the labels are over {labels.num_classes} "
            f"classes. Build the student with num_classes = {labels.num_classes}."
        )


def check_tail(tail: Tail, *, among: tuple[Tail, ...], loss: str) -> None:
    """Raises InvalidOption, naming the tails that do, unless the tail makes sense for the loss."""
    if tail not in among:
        raise InvalidOption(f"loss.tail = {tail}: {loss} has no such tail. Choose as `loss.tail` {' or '.join(among)}.")
