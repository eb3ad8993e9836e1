"""Maps a student's feature to the width of the teacher's, so that the two can be compared; not needed afterwards."""

# Shape letters: B rows in a batch, L positions, D features, C channels, H height, W width.

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses.features import ANY_WIDTH, FeatureLossName, ProjectorKind, check_comparable, width_of
from softlab.student.feature_losses import Normalisation, check_normalisation

RANKS = {"linear": (1, 2), "conv1x1": (3,)}
"""Of the shapes, without B, that each kind projects: [D] and [L, D], or [C, H, W]."""


class Projector(nn.Module):
    """One linear map for all positions, then the normalisation; in float32, under autocast too.

    The regressor of FitNets (Romero, Ballas, Kahou, Chassang, Gatta, Bengio, 2015, section 2.2), with a kernel of 1x1
    for maps: unnormalised, it commutes with the averaging of maps to another size, which is the loss's part. `batch`
    is batch normalisation over rows and positions, of which it needs two in training; `layer` normalises the vector of
    each position.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        kind: Literal["linear", "conv1x1"],
        normalisation: Normalisation = "none",
    ) -> None:
        super().__init__()
        self._axis = 1 if kind == "conv1x1" else -1
        self.linear = nn.Linear(student_width, teacher_width, bias=normalisation != "batch")
        self.normalisation = _make_normalisation(teacher_width, normalisation)

    def forward(self, feature: Tensor) -> Tensor:
        """float32, the feature's shape but for its width."""
        with torch.autocast(feature.device.type, enabled=False):
            vectors = self.linear(feature.float().movedim(self._axis, -1))
            normalised: Tensor = self.normalisation(vectors.flatten(end_dim=-2)).view_as(vectors)
            return normalised.movedim(-1, self._axis)


def make_projector(
    student_shape: Sequence[int],
    teacher_shape: Sequence[int],
    *,
    kind: ProjectorKind = "auto",
    normalisation: Normalisation = "none",
    loss: FeatureLossName = "mse",
    layer: str = "the student's layer",
) -> nn.Module:
    """A module that makes the student's feature comparable with the teacher's; `nn.Identity` where nothing is to do.

    Shapes are without B. `auto` projects where the loss needs equal widths and they differ, or where a normalisation is
    asked for. Initial weights come from torch's global random state. `layer` names the student's feature in errors.

    Raises StoreMismatch for shapes that no projection makes comparable, or that differ in width under kind `none`;
    InvalidOption for a kind that doesn't project such a shape, and for a normalisation under kind `none`.
    """
    check_normalisation(normalisation, projector=kind)
    if kind == "auto":
        differ = len(student_shape) == len(teacher_shape) and width_of(student_shape) != width_of(teacher_shape)
        is_needed = normalisation != "none" or (differ and loss not in ANY_WIDTH)
        kind = _kind_for(student_shape, layer=layer) if is_needed else "none"
    if kind == "none":
        check_comparable(student_shape, teacher_shape, loss=loss, layer=layer)
        return nn.Identity()
    _check_kind(kind, student_shape, layer=layer)
    _check_ranks(student_shape, teacher_shape, layer=layer)
    check_comparable(student_shape, teacher_shape, loss=loss, layer=layer, is_projected=True)
    return Projector(width_of(student_shape), width_of(teacher_shape), kind=kind, normalisation=normalisation)


def _kind_for(shape: Sequence[int], *, layer: str) -> Literal["linear", "conv1x1"]:
    if len(shape) > 3:
        raise StoreMismatch(
            f"{layer} gives {list(shape)} for a sample: expected [D], [L, D] or [C, H, W] to project. "
            f"Store and tap the layers pooled, e.g. LAYER:mean."
        )
    return "conv1x1" if len(shape) == 3 else "linear"


def _check_kind(kind: Literal["linear", "conv1x1"], shape: Sequence[int], *, layer: str) -> None:
    if len(shape) not in RANKS[kind]:
        expected = "[D] or [L, D]" if kind == "linear" else "[C, H, W]"
        raise InvalidOption(
            f"projector = {kind}: {layer} gives {list(shape)} for a sample, expected {expected}. Set projector = auto."
        )


def _check_ranks(student_shape: Sequence[int], teacher_shape: Sequence[int], *, layer: str) -> None:
    if len(student_shape) != len(teacher_shape):
        raise StoreMismatch(
            f"{layer} gives {list(student_shape)} for a sample, the teacher's feature is {list(teacher_shape)}: "
            f"projector = linear and conv1x1 keep the rank. Pool the student's layer as the feature was when it was "
            f"stored, e.g. LAYER:mean."
        )


def _make_normalisation(width: int, normalisation: Normalisation) -> nn.Module:
    match normalisation:
        case "batch":
            return nn.BatchNorm1d(width)
        case "layer":
            return nn.LayerNorm(width)
    return nn.Identity()
