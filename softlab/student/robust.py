"""Students that withstand attacks: adversarially robust distillation from the stored labels of clean samples.

A teacher is run once, on clean samples. So methods that ask it about the student's own adversarial samples (IAD,
AdaAD, MTARD) can't be done here; these ask it about clean ones alone.
"""

# Shape letters: B rows in a batch, C classes.

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.evaluation.attack import attacked, check_bounds, uniform_start
from softlab.labels.lazy_logits import LazyLogits
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.modalities.inputs import InputBounds, Inputs
from softlab.modalities.modality import input_bounds
from softlab.student.heads.objective import HeadsObjective
from softlab.student.objective import Objective
from softlab.student.options import LearnOptions
from softlab.student.robust_options import RobustOptions
from softlab.student.tapped import TappedStudent

SECTION = "robust"
"""Of the options, for messages."""

SMALL_START = 1e-3
"""Standard deviation of the change that RSLAD's attack begins from, as its authors' code has it."""


def make_robust_loss(
    name: str, learn: LearnOptions, objective: Objective | HeadsObjective, aligned: Aligned, input_index: int
) -> "RobustLoss | None":
    """Of a student that is to withstand attacks; None of another one. Raises InvalidOption for what can't be had
    together, and for data that it can't be learnt from."""
    options = learn.robust
    if options is None:
        return None
    input, student = aligned.inputs[input_index], f"student {name}: "
    assert isinstance(objective, Objective), "students with several heads have no such section"
    bounds = check_bounds(input_bounds(input), modality=input.modality, section=SECTION, whose=student)
    if learn.feature or objective.values_output is not None:
        raise InvalidOption(
            f"{student}[{SECTION}]: adversarial samples have no stored features or values. Learn stored labels alone, "
            f"or leave [{SECTION}] out."
        )
    if options.method != "adversarial_training" and not objective.learns_labels:
        raise InvalidOption(
            f"{student}{SECTION}.method = {options.method}: it learns stored labels, and there are none, or "
            f"`teachers.alpha` is 0. Give a store, or say `{SECTION}.method = adversarial_training`."
        )
    if options.attacks_by_targets and not _all_targets_are_known(aligned):
        raise InvalidOption(
            f"{student}{SECTION}.method = {options.method}: its attack needs the hard target of each sample, and "
            f"{aligned.source.name} lacks some. Say `{SECTION}.method = rslad`, or give a source that has them."
        )
    return RobustLoss(objective=objective, options=options, bounds=bounds)


def hard_alone(options: RobustOptions | None) -> RobustOptions | None:
    """What the hard-target baseline of a student does: adversarial training with the same attack."""
    return None if options is None else replace(options, method="adversarial_training")


def _all_targets_are_known(aligned: Aligned) -> bool:
    targets_N, sets_NC = aligned.known_targets(), aligned.label_sets_NC
    if targets_N is not None:
        return bool((targets_N >= 0).all())
    return sets_NC is not None and bool((sets_NC >= 0).all())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RobustLoss:
    """The loss of one student on a batch and on adversarial samples of it."""

    objective: Objective
    options: RobustOptions
    bounds: InputBounds

    def __call__(self, student: TappedStudent, batch: Batch, *, progress: float) -> Tensor:
        """A float32 scalar. The student is left in training mode, in which it is called with the adversarial samples
        and with the clean ones; for the attack itself it is in eval mode."""
        forward = _Forward(student=student, batch=batch)
        inputs = forward.clean
        soft, hard = self._alone(alpha=1.0), self._alone(alpha=0.0)
        raised = hard if self.options.attacks_by_targets else soft
        with _in_eval_mode(student.module):
            changed = attacked(
                inputs,
                lambda found: raised(forward(found), batch, progress=progress),
                bounds=self.bounds,
                options=self.options.attack,
                start=self._start(inputs.positional[0]),
                section=SECTION,
            )
        adversarial_BC = forward(changed)
        if self.options.method == "adversarial_training":
            return hard(adversarial_BC, batch)
        if self.options.method == "ard":
            alpha = self.objective.alpha_at(progress)
            loss = alpha * soft(adversarial_BC, batch, progress=progress)
            return loss if alpha == 1 else loss + (1 - alpha) * hard(forward(inputs), batch)
        on_adversarial, weight = self.objective(adversarial_BC, batch, progress=progress), self.options.weight
        return weight * on_adversarial + (1 - weight) * self.objective(forward(inputs), batch, progress=progress)

    def _alone(self, *, alpha: float) -> Objective:
        """One of the two terms of the objective."""
        return replace(self.objective, teachers=replace(self.objective.teachers, alpha=alpha, alpha_end=None))

    def _start(self, clean: Tensor) -> Tensor:
        if self.options.method == "rslad":
            return SMALL_START * torch.randn(clean.shape, device=clean.device)
        return uniform_start(clean, epsilon=self.options.epsilon)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Forward:
    """Calls a student with other inputs than those of a batch."""

    student: TappedStudent
    batch: Batch

    @property
    def clean(self) -> Inputs:
        return self.batch.inputs[self.student.input_index].inputs

    def __call__(self, inputs: Inputs) -> Tensor:
        index, all_inputs = self.student.input_index, list(self.batch.inputs)
        all_inputs[index] = replace(all_inputs[index], inputs=inputs)
        logits_BC = self.student.logits(replace(self.batch, inputs=tuple(all_inputs)))
        if isinstance(logits_BC, LazyLogits):
            raise InvalidOption(
                f"[{SECTION}]: the student gives logits of a large vocabulary, some rows at a time, and can't be "
                f"attacked. Leave [{SECTION}] out."
            )
        assert isinstance(logits_BC, Tensor), "students with several heads have no such section"
        return logits_BC


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    module.eval()
    try:
        yield
    finally:
        module.train()
