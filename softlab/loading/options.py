"""What is checked before samples and stored labels are brought together."""

from dataclasses import dataclass
from typing import Literal

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
