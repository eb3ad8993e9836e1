"""What is checked before samples and stored labels are brought together."""

from dataclasses import dataclass
from typing import Literal

from softlab.errors import check_option
from softlab.labels.chance import LabelClasses
from softlab.loading.sample_check import VerifyInputs


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckOptions:
    """How a source is checked against the stores that were made from it."""

    subset: bool = False
    """Accept a source with some of the samples.

    Of those that the store holds; they are found by key."""

    verify_inputs: VerifyInputs = "some"
    """Which samples must have the content hash that the store records: some at random, or all."""

    views_mismatch: Literal["refuse", "allow"] = "refuse"
    """Whether inputs may be other views than those the teacher saw; allowed, that is written into a run's record."""

    labels: LabelClasses = "auto"
    """Of which classes hard targets are: the same as the teacher's, or other ones, which are left aside.

    auto: by their names; numbers without names, far fewer than the teacher's classes, are of other ones where it is
    right about them by chance at most."""

    tail_nats: float = 0.2
    """By how many nats a tail at a temperature that isn't stored may be off at most, by what the stored ones tell.

    Of a run that trains there; one that may be farther off is refused before its first step."""

    def __post_init__(self) -> None:
        check_option(self.tail_nats >= 0, "check.tail_nats", self.tail_nats, "0 or more")
