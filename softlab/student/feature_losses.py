"""How a student learns a stored feature: which of its layers, and by what loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from softlab.errors import InvalidOption, suggest
from softlab.labels.losses.features import FeatureLossName, ProjectorKind
from softlab.models.taps import Tap, parse_tap

Normalisation = Literal["none", "batch", "layer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureLoss:
    """How a student learns one stored feature."""

    layer: str
    """Of the student: LAYER or LAYER:POOLING, pooling one of none, mean, cls, flatten."""

    loss: FeatureLossName = "mse"
    """What compares the student's feature with the teacher's."""

    weight: float = 1.0
    """Of this loss beside the others."""

    projector: ProjectorKind = "auto"
    """From the student's width to the teacher's. auto: where the loss needs it; linear: [D], [L, D]; conv1x1: maps."""

    normalisation: Normalisation = "none"
    """Of what is projected, with a learned scale and offset; auto then always projects."""

    def __post_init__(self) -> None:
        parse_tap(self.layer)
        _check_choice("loss", self.loss, get_args(FeatureLossName))
        _check_choice("projector", self.projector, get_args(ProjectorKind))
        _check_choice("normalisation", self.normalisation, get_args(Normalisation))
        check_normalisation(self.normalisation, projector=self.projector)
        if not 0 < self.weight < math.inf:
            raise InvalidOption(f"weight = {self.weight}: expected a positive number. To learn without, leave it out.")

    @property
    def tap(self) -> Tap:
        """The student's layer, as `FeatureTaps` takes it."""
        return parse_tap(self.layer)


def check_normalisation(normalisation: Normalisation, *, projector: ProjectorKind) -> None:
    """Raises InvalidOption for a normalisation of what is not projected."""
    if normalisation != "none" and projector == "none":
        raise InvalidOption(
            f"normalisation = {normalisation} with projector = none: only what is projected is normalised. "
            f"Set projector = auto, or normalisation = none."
        )


def _check_choice(name: str, found: str, choices: Sequence[str]) -> None:
    if found not in choices:
        raise InvalidOption(f"{name} = {found}: expected one of {', '.join(choices)}. {suggest(found, choices)}")
