"""How a student learns to withstand attacks, and at which temperature."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from softlab.errors import check_option
from softlab.evaluation.attack import AttackOptions, check_attack
from softlab.labels.losses import StudentLoss, has_temperature, temperature_of

RobustMethod = Literal["rslad", "ard", "adversarial_training"]

TEMPERATURES = {"rslad": 1.0, "ard": 30.0}
"""Of the papers, where `loss.temperature` is left out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustOptions:
    """How a student learns to withstand small changes of a sample that are made so that it errs."""

    method: RobustMethod = "rslad"
    """rslad (Zi et al. 2021): the attack raises the student's loss against the stored label, and the student learns
    that label on both samples. ard (Goldblum et al. 2020): the attack raises cross-entropy; the stored label is learnt
    on the adversarial sample, hard targets on the clean one. adversarial_training (Madry et al. 2018): hard targets on
    the adversarial sample alone."""

    epsilon: float = 8 / 255
    """The most that a number of a sample is changed, in units of the data: pixels are 0 to 1."""

    step: float | None = None
    """By how much in one step of the attack; default: a quarter of epsilon."""

    steps: int = 10
    """Steps of the attack, each a forward and a backward pass."""

    weight: float = 5 / 6
    """rslad: the weight of the loss on the adversarial sample; 1 - weight is that on the clean one."""

    def __post_init__(self) -> None:
        check_attack(self.epsilon, self.step, self.steps, section="robust")
        check_option(0 <= self.weight <= 1, "robust.weight", self.weight, "0 to 1")

    @property
    def attack(self) -> AttackOptions:
        return AttackOptions(epsilon=self.epsilon, step=self.step, steps=self.steps)

    @property
    def attacks_by_targets(self) -> bool:
        """Whether the attack raises cross-entropy on hard targets."""
        return self.method != "rslad"


def with_papers_temperature(loss: StudentLoss, robust: RobustOptions) -> StudentLoss:
    """The loss with the temperature of the method's paper, where it has one and none was given."""
    temperature = TEMPERATURES.get(robust.method)
    if temperature is None or not has_temperature(loss) or temperature_of(loss) is not None:
        return loss
    given: Any = {"temperature": temperature}
    return replace(loss, **given)
