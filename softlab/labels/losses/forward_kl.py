"""KL(teacher || student), the loss of Hinton's distillation."""

# Shape letters: B rows in a batch, C classes, K entries kept (K <= C).

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from softlab.labels.losses.checks import Tail, check_labels, check_same_classes, check_tail, finite_where_not_valid
from softlab.labels.losses.few_classes_kl import DenseTarget, dense_kl, dense_target_of, has_few_classes
from softlab.labels.losses.notes import tell
from softlab.labels.losses.sampled_kl import check_sampled, sampled_kl, sampled_kl_rows
from softlab.labels.losses.sparse_kl import Target, sparse_kl, sparse_kl_rows, target_of
from softlab.labels.losses.teacher import distribution_at
from softlab.labels.losses.tempered import TemperedLoss
from softlab.labels.soft_labels import SoftLabels

TAILS: tuple[Tail, ...] = ("uniform", "bucket", "renormalise", "renormalise_both")


def distillation_loss(
    student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform"
) -> Tensor:
    """T^2 * KL(teacher || student) at temperature T, in nats, mean over rows; a float32 scalar.

        labels = store.read(indices).to(logits.device)
        loss = softlab.distillation_loss(logits, labels, temperature=4.0)

    Hinton, Vinyals, Dean (2015), section 2: both distributions are softmax(logits / T), and T^2 keeps the size of the
    gradients independent of T. The teacher's probability outside its K kept classes enters as `tail` says:

    - `uniform`: the other C - K classes share the exact tail mass equally. With K = C this is the full KL.
    - `bucket`: the tail is one more class, against the student's whole probability outside the kept classes.
    - `renormalise`: the tail is dropped and the kept classes are rescaled to sum to 1, for the teacher alone. The
      student's probability of the other classes is pushed to 0.
    - `renormalise_both`: both are rescaled: the KL between softmaxes over the K kept classes alone. What the student
      gives the others doesn't matter. With p and q the kept probability of teacher and student, `bucket` is
      p * this + KL((p, 1 - p) || (q, 1 - q)), by the chain rule (Cover, Thomas 2006, theorem 2.5.3).

    Labels that are samples (`keep_sampled`) have no tail, and only temperature 1: sum over entries of weight *
    (-log softmax(student)), less the teacher's entropy, which is unbiased in value and gradient.

    Over more than 64 classes its gradient is written down, not traced; that of `kl_rows` can be differentiated again.
    Raises StoreMismatch if the student has another number of classes or the labels come from a sigmoid head,
    InvalidOption below the smallest stored temperature; warns with InterpolatedTail at one that is not stored.
    """
    check_same_classes(student_logits_BC, labels)
    if labels.is_sampled:
        _check_labels(labels, tail)
        check_sampled(temperature=temperature, tail=tail)
        return sampled_kl(student_logits_BC.float(), labels)
    tell(labels, loss="kl", temperature=temperature, tail=tail)
    if tail == "renormalise_both" or (tail == "bucket" and labels.k < labels.num_classes):
        return temperature**2 * kl_rows(student_logits_BC, labels, temperature=temperature, tail=tail).mean()
    target = labels.once_for_all(("kl", temperature, tail), partial(_target_of, temperature=temperature, tail=tail))
    student_BC = finite_where_not_valid(student_logits_BC, labels)
    if isinstance(target, DenseTarget):
        return dense_kl(student_BC, target, temperature=temperature)
    return sparse_kl(student_BC, target, temperature=temperature)


def kl_rows(student_logits_BC: Tensor, labels: SoftLabels, *, temperature: float, tail: Tail = "uniform") -> Tensor:
    """KL(teacher || student) at temperature T of each row, float32 [B], in nats, without the factor T^2."""
    check_same_classes(student_logits_BC, labels)
    _check_labels(labels, tail)
    if labels.is_sampled:
        check_sampled(temperature=temperature, tail=tail)
        return sampled_kl_rows(student_logits_BC.float(), labels)
    teacher = distribution_at(labels, temperature=temperature, tail=tail)
    student_BC = finite_where_not_valid(student_logits_BC, labels)
    return sparse_kl_rows(student_BC, teacher, temperature=temperature, tail=tail)


@dataclass(frozen=True, kw_only=True, slots=True)
class KlLoss(TemperedLoss):
    """Options of `distillation_loss`."""

    name: ClassVar[Literal["kl"]] = "kl"
    tails: ClassVar[tuple[Tail, ...]] = TAILS

    def __call__(self, student_logits_BC: Tensor, labels: SoftLabels, *, targets_B: Tensor | None = None) -> Tensor:
        return distillation_loss(student_logits_BC, labels, temperature=self.temperature_for(labels), tail=self.tail)


def _check_labels(labels: SoftLabels, tail: Tail) -> None:
    """Once, of labels that were read together."""
    check_labels(labels, loss="kl")
    check_tail(tail, among=TAILS, loss="kl")


def _target_of(labels: SoftLabels, *, temperature: float, tail: Tail) -> Target | DenseTarget:
    _check_labels(labels, tail)
    teacher = distribution_at(labels, temperature=temperature, tail=tail)
    if has_few_classes(labels.num_classes):
        return dense_target_of(teacher, num_classes=labels.num_classes)
    return target_of(teacher)
