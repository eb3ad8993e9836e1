"""What a student is trained on: distillation from the stores, mixed with cross-entropy on hard targets; or a stored
output of values alone."""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.ensembles import combine, weigh
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.losses import (
    KlLoss,
    LossOnValues,
    StudentLoss,
    decision_loss,
    hard_cross_entropy,
    multi_label_cross_entropy,
    temperature_of,
)
from softlab.labels.losses.chunked import chunked_loss
from softlab.labels.losses.features import feature_loss
from softlab.labels.losses.sampled_targets import with_targets
from softlab.labels.on_device import constant
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.told import already_told
from softlab.loading.batch import Batch
from softlab.student.feature_losses import FeatureLoss
from softlab.student.options import LearnOptions, TeachersOptions
from softlab.student.row_shares import RowShares, check_adds_up

UNKNOWN_TARGET = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """alpha * distillation + (1 - alpha) * cross-entropy + the feature losses, each with its weight."""

    teachers: TeachersOptions = field(default_factory=TeachersOptions)
    loss: StudentLoss = field(default_factory=KlLoss)
    new_classes: bool = False
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] = ()
    """Of all classes, in cross-entropy; none where all count alike."""

    features: Mapping[str, FeatureLoss] = field(default_factory=dict)

    attacks_by_targets: bool = False
    """Whether samples are changed so that cross-entropy rises, see `softlab.student.robust`."""

    @property
    def needs_targets(self) -> bool:
        alpha, end = self.teachers.alpha, self.teachers.alpha_end
        return (alpha if end is None else min(alpha, end)) < 1 or self.loss.needs_targets or self.attacks_by_targets

    @property
    def values_output(self) -> str | None:
        """The stored output of kind `values` that the student's own output learns; None of one that gives logits."""
        return self.loss.output if isinstance(self.loss, LossOnValues) else None

    @property
    def learns_labels(self) -> bool:
        """Whether stored labels count at any time."""
        return not isinstance(self.loss, LossOnValues) and max(self.teachers.alpha, self.teachers.alpha_end or 0.0) > 0

    @property
    def temperature_end(self) -> float | None:
        """Where the loss's temperature moves to; None where it stays."""
        return getattr(self.loss, "temperature_end", None)

    def __call__(
        self,
        student_logits_BC: Tensor | LazyLogits,
        batch: Batch,
        *,
        features: Mapping[str, Tensor] | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """A float32 scalar, mean over rows, `progress` of the run (0 to 1) done. Of a student that learns values,
        `student_logits_BC` are these, projected. Lazy logits are computed some rows at a time, and never there whole.

        `features` are the student's, projected, by the name of the stored one that they learn. Raises StoreMismatch for
        a batch without what alpha or the loss asks for.
        """
        alpha = self.alpha_at(progress)
        with already_told():  # when the run began
            loss = self._decision(student_logits_BC, batch, alpha=alpha, decision=self._loss_at(progress))
        for name, options in self.features.items():
            found = (features or {})[name]
            loss = loss + options.weight * feature_loss(found, batch.features[name], loss=options.loss)
        return loss

    def alpha_at(self, progress: float) -> float:
        """The weight of distillation by then."""
        return _between(self.teachers.alpha, self.teachers.alpha_end, progress)

    def _loss_at(self, progress: float) -> StudentLoss:
        """The distillation loss, its temperature where it is by then."""
        if self.temperature_end is None:
            return self.loss
        start = temperature_of(self.loss)
        assert start is not None, "it has an end"
        moved: Any = {"temperature": _between(start, self.temperature_end, progress), "temperature_end": None}
        return replace(self.loss, **moved)

    def _decision(
        self, student_logits_BC: Tensor | LazyLogits, batch: Batch, *, alpha: float, decision: StudentLoss
    ) -> Tensor:
        """All but the features; 0 for a batch of samples that all have no rows, and where features are all there is to
        learn."""
        has_targets = batch.targets_B is not None or batch.label_sets_BC is not None
        if len(student_logits_BC) == 0 or (alpha == 0 and not has_targets and self.features):
            return _nothing(student_logits_BC)
        if isinstance(student_logits_BC, LazyLogits):
            return self._some_at_a_time(student_logits_BC, batch, alpha=alpha, decision=decision)
        if alpha == 0:
            return self._hard(student_logits_BC, batch)
        if alpha == 1:
            return self._distillation(student_logits_BC, batch, decision)
        distillation = self._distillation(student_logits_BC, batch, decision)
        return alpha * distillation + (1 - alpha) * self._hard(student_logits_BC, batch)

    def _some_at_a_time(self, logits: LazyLogits, batch: Batch, *, alpha: float, decision: StudentLoss) -> Tensor:
        """The same: of each chunk of rows both terms, from one product with the output layer."""
        check_adds_up(decision, batch, new_classes=self.new_classes)
        shares = RowShares(batch, num_rows=len(logits), class_weights=self.class_weights)
        if alpha > 0:  # of several teachers, what they say together
            batch = replace(batch, labels=self._labels(batch, temperature=temperature_of(decision)), others=())
        if self._is_one_term(batch, alpha=alpha, decision=decision):
            assert batch.labels is not None, "they are sampled"
            assert batch.targets_B is not None, "they are there"
            batch, alpha = replace(batch, labels=with_targets(batch.labels, batch.targets_B, alpha=alpha)), 1.0

        def loss_of(logits_BC: Tensor, rows: slice) -> Tensor:
            own, terms = batch.with_rows(rows), []
            if alpha > 0:
                loss = self._distillation(logits_BC, own, decision)
                share = shares.of_known(rows) if decision.needs_targets else shares.of_all(rows)
                terms.append(loss * (alpha * share))
            if alpha < 1:
                terms.append(self._hard(logits_BC, own) * ((1 - alpha) * shares.of_weighted(rows)))
            return torch.stack(terms).sum()

        return chunked_loss(logits, loss_of)

    def _is_one_term(self, batch: Batch, *, alpha: float, decision: StudentLoss) -> bool:
        """Whether hard targets are as good as one more entry of the stored rows."""
        is_plain = not self.label_smoothing and not self.class_weights and batch.targets_B is not None
        is_sampled = batch.labels is not None and batch.labels.is_sampled
        return is_plain and is_sampled and isinstance(decision, KlLoss) and 0 < alpha < 1

    def _hard(self, student_logits_BC: Tensor, batch: Batch) -> Tensor:
        if self.new_classes:
            student_logits_BC, batch = _of_the_new_classes(student_logits_BC, batch)
        return hard_loss(
            student_logits_BC, batch, label_smoothing=self.label_smoothing, class_weights=self.class_weights
        )

    def _distillation(self, student_logits_BC: Tensor, batch: Batch, decision: StudentLoss) -> Tensor:
        if isinstance(decision, LossOnValues):
            assert decision.output is not None, "settled when the run began"
            return decision(student_logits_BC, batch.features[decision.output])
        if self.loss.needs_targets and batch.mixed is not None:
            raise StoreMismatch(
                f"{self.loss.name} needs one hard target a row, but the views are mixed of two (MixUp, CutMix). Choose "
                f"another `loss.name`, or a store without mixing."
            )
        labels, targets_B = self._labels(batch, temperature=temperature_of(decision)), batch.targets_B
        if self.new_classes:
            student_logits_BC = _of_the_teachers_classes(student_logits_BC, labels)
            if targets_B is not None:
                targets_B = targets_B.masked_fill(targets_B >= labels.num_classes, UNKNOWN_TARGET)
        return decision_loss(student_logits_BC, labels, targets_B=targets_B, options=decision)

    def _labels(self, batch: Batch, *, temperature: float | None) -> SoftLabels:
        assert batch.labels is not None, "a run with alpha > 0 has a store"
        if not batch.others:
            return batch.labels if self.temperature_end is None else batch.labels.alone()
        labels = [batch.labels, *batch.others]
        teachers = self.teachers
        if teachers.weigh == "correctness" and batch.mixed is not None:
            raise StoreMismatch(
                "`teachers.weigh = correctness` needs one hard target a row, but the views are mixed of two (MixUp, "
                "CutMix). Weigh by confidence, or choose stores without mixing."
            )
        given = teachers.weight or (1.0,) * len(labels)
        weights_BS = weigh(labels, given=given, by=teachers.weigh, targets_B=batch.targets_B)
        at = max(each.temperatures[0] for each in labels) if temperature is None else temperature
        return combine(labels, weights_BS, by=teachers.combine, temperature=at)


HARD_TARGETS = Objective(teachers=TeachersOptions(alpha=0.0))
"""The baseline: plain cross-entropy."""


def make_objective(
    options: LearnOptions, *, num_stores: int, new_classes: bool = False, class_weights: tuple[float, ...] = ()
) -> Objective:
    """What the options ask for; without a store, cross-entropy alone. Raises InvalidOption for weights that don't fit
    the stores, or a loss that their mixture has no value for."""
    hard = replace(HARD_TARGETS, label_smoothing=options.targets.label_smoothing, class_weights=class_weights)
    if num_stores == 0:
        if options.feature:
            raise InvalidOption(f"feature {min(options.feature)}: there is no store to learn it from. Leave it out.")
        return hard
    teachers, loss = options.teachers, options.loss.name
    if isinstance(options.loss, LossOnValues):
        check_learns_values_alone(options)
    if teachers.weight and len(teachers.weight) != num_stores:
        raise InvalidOption(
            f"{len(teachers.weight)} values of `teachers.weight` for {num_stores} stores. Give one a store."
        )
    if num_stores > 1 and loss == "mse" and teachers.combine == "probabilities":
        raise InvalidOption(
            "mse compares raw logits, which a mixture of probabilities lacks. Say `teachers.combine = logits`."
        )
    if num_stores > 1 and loss == "standardised_kl":
        raise InvalidOption(
            "standardised_kl needs the spread of one teacher's logits, which a mixture lacks. Choose another "
            "`loss.name`, or give one store."
        )
    return replace(hard, teachers=teachers, loss=options.loss, new_classes=new_classes, features=options.feature)


def check_learns_values_alone(options: LearnOptions) -> None:
    """Raises InvalidOption for what a student of values can't learn beside them, as it gives no classes."""
    loss, teachers, targets = options.loss.name, options.teachers, options.targets
    if (teachers.alpha, teachers.alpha_end) not in ((1, None), (1, 1)):
        raise InvalidOption(
            f"loss.name = {loss} with teachers.alpha = {teachers.alpha:g}: {loss} is learnt from stored values, and 1 "
            f"- alpha is the weight of cross-entropy on hard targets, for which a student must give classes. Say "
            f"`teachers.alpha = 1`."
        )
    if targets.label_smoothing or targets.class_weights:
        raise InvalidOption(
            f"loss.name = {loss} with [targets]: no hard targets are learnt beside stored values. Leave [targets] out."
        )


def hard_loss(
    student_logits_BC: Tensor, batch: Batch, *, label_smoothing: float = 0.0, class_weights: tuple[float, ...] = ()
) -> Tensor:
    """Cross-entropy, mean over the rows whose target is known; 0 if none is. A mixed view has two targets, each with
    its share (Zhang et al. 2018, equation 1; Yun et al. 2019, equation 1). Of samples that may be of several
    classes it is binary cross-entropy, see `multi_label_cross_entropy`. With class weights the mean is weighted, as
    torch's cross_entropy has it."""
    if batch.label_sets_BC is not None:
        return multi_label_cross_entropy(student_logits_BC, batch.label_sets_BC)
    if batch.targets_B is None:
        raise StoreMismatch(
            "there are no hard targets to learn, or they count other classes than the store. Give a source that has "
            "them (class folders, or of a Parquet file the column that `source.label_column` names), or train on a "
            "store's labels alone (`teachers.alpha = 1`, without `distil.baseline`)."
        )
    weight_C = constant(tuple(class_weights), student_logits_BC.device) if class_weights else None
    _check_class_weights(weight_C, student_logits_BC)
    if batch.mixed is None:
        return hard_cross_entropy(
            student_logits_BC, batch.targets_B, label_smoothing=label_smoothing, class_weights_C=weight_C
        )
    own_B, targets_B = batch.mixed.weights_B, batch.mixed.targets_B
    total, weight = _cross_entropy(student_logits_BC, batch.targets_B, own_B, label_smoothing, weight_C)
    partner_total, partner_weight = _cross_entropy(student_logits_BC, targets_B, 1 - own_B, label_smoothing, weight_C)
    return (total + partner_total) / (weight + partner_weight).clamp(min=1e-6)


def _nothing(logits: Tensor | LazyLogits) -> Tensor:
    """0, with a gradient of 0 for all that the logits depend on."""
    if not isinstance(logits, LazyLogits):
        return logits.sum() * 0.0
    parts = [logits.hidden, logits.weight_CD, *([] if logits.bias_C is None else [logits.bias_C])]
    return torch.stack([part.sum().float() for part in parts]).sum() * 0.0


def _of_the_teachers_classes(student_logits_BC: Tensor, labels: SoftLabels) -> Tensor:
    """The old outputs, as Li, Hoiem (2016), equation 2, compares them: a distribution of their own."""
    if student_logits_BC.shape[1] <= labels.num_classes:
        raise StoreMismatch(
            f"the student has {student_logits_BC.shape[1]} outputs, but with `distil.new_classes` it needs more than "
            f"the teacher's {labels.num_classes}. Build it with all classes, or leave `distil.new_classes` out."
        )
    return student_logits_BC[:, : labels.num_classes]


def _of_the_new_classes(student_logits_BC: Tensor, batch: Batch) -> tuple[Tensor, Batch]:
    """The other outputs, in equation 1 there a distribution of their own too, and the batch with hard targets that
    count them; one of an old class becomes unknown."""
    assert batch.labels is not None, "a run with new classes has a store"
    num_old = batch.labels.num_classes
    if batch.mixed is not None:
        raise StoreMismatch(
            "`distil.new_classes` needs one hard target a row, but the views are mixed of two (MixUp, CutMix). Choose "
            "a store without mixing."
        )
    if batch.targets_B is not None:
        batch = replace(batch, targets_B=(batch.targets_B - num_old).clamp(min=UNKNOWN_TARGET))
    return student_logits_BC[:, num_old:], batch


def _check_class_weights(weight_C: Tensor | None, student_logits_BC: Tensor) -> None:
    if weight_C is not None and len(weight_C) != student_logits_BC.shape[1]:
        raise InvalidOption(
            f"targets.class_weights: {len(weight_C)} numbers, but the student has {student_logits_BC.shape[1]} "
            f"outputs. Give `targets.class_weights` one a class."
        )


def _cross_entropy(
    student_logits_BC: Tensor,
    targets_B: Tensor,
    weights_B: Tensor,
    label_smoothing: float,
    class_weights_C: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Weighted sum over the rows whose target is known, and the weight of these rows."""
    losses_B = functional.cross_entropy(
        student_logits_BC.float(),
        targets_B,
        weight=class_weights_C,
        ignore_index=UNKNOWN_TARGET,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    counts_B = (targets_B != UNKNOWN_TARGET).float()
    if class_weights_C is not None:
        counts_B = counts_B * class_weights_C[targets_B.clamp(min=0)]
    return (weights_B * losses_B).sum(), (weights_B * counts_B).sum()


def _between(start: float, end: float | None, progress: float) -> float:
    """Exactly the end at the end, and never beyond it on the way: 4 + (0.3 - 4) is 0.2999999999999998."""
    if end is None:
        return start
    at = start + (end - start) * progress
    return end if progress >= 1 else min(max(at, min(start, end)), max(start, end))
