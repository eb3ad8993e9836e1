"""Losses between a student's features and the teacher's stored ones; float32 scalars, means over rows.

Features have one of three shapes: vectors [B, D], tokens [B, L, D], maps [B, C, H, W]. `cosine` and `angle` compare the
vector of each position: the last axis of tokens, the channels of maps. Maps of different sizes are compared at the
smaller height and width, the larger ones averaged down to it. A zero vector has cosine 0 with everything, and no
gradient. The two features may come in any floating dtype; all is computed in float32, under autocast too.
"""

# Shape letters: B rows in a batch, L positions, D features, C channels, H height, W width, P pairs of distinct rows.

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from softlab.errors import StoreMismatch

FeatureLossName = Literal[
    "mse", "cosine", "angle", "attention", "relational", "relational_distance", "relational_angle"
]
ProjectorKind = Literal["auto", "none", "linear", "conv1x1"]
"""How a student's width becomes the teacher's: where a loss needs it, never, or by one linear map of each position."""

ANY_WIDTH: frozenset[FeatureLossName] = frozenset(
    {"attention", "relational", "relational_distance", "relational_angle"}
)
"""Losses for which a student's feature may be narrower or wider than the teacher's."""

RELATIONAL_ANGLE_WEIGHT = 2.0
"""Against 1 for distances: the ratio in the authors' published commands."""

TINY = 1e-12
"""A vector this short has no direction; `torch.nn.functional.normalize` draws the line at the same length."""

NEAR = 1e-6
"""In mean distances: float32 doesn't know the direction from one row to another that is nearer."""


def feature_loss(student: Tensor, teacher: Tensor, *, loss: FeatureLossName = "mse") -> Tensor:
    """The loss of that name, unweighted. Raises StoreMismatch for shapes that it can't compare."""
    return LOSSES[loss](student, teacher)


def mean_squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """mean((s - t)^2) over all elements.

    The hint loss of FitNets (Romero, Ballas, Kahou, Chassang, Gatta, Bengio, 2015, equation 3) is 1/2 ||s - t||^2, a
    sum over the n elements of a row: n / 2 times this. A mean keeps the weight independent of the layer's size.
    """
    return functional.mse_loss(*_same_shapes(student, teacher, loss="mse"))


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos(s, t), from 0 to 2, mean over vectors.

    The cosine loss between hidden states of DistilBERT (Sanh, Debut, Chaumond, Wolf, 2019, section 2).
    """
    student_unit, teacher_unit = _both_normalised(student, teacher, loss="cosine")
    return 1 - (student_unit * teacher_unit).sum(dim=-1).mean()


def cosine_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """arccos(cos(s, t)) in radians, from 0 to pi, mean over vectors.

    Computed as 2 atan2(||u - v||, ||u + v||) of the unit vectors (Kahan, 2006, "How futile are mindless assessments of
    roundoff", on mangled angles): arccos has an infinite slope at cos = 1 and in float32 sees no angle below 3e-4.
    The gradient of parallel vectors is 0.
    """
    student_unit, teacher_unit = _both_normalised(student, teacher, loss="angle")
    across = torch.linalg.vector_norm(student_unit - teacher_unit, dim=-1)
    along = torch.linalg.vector_norm(student_unit + teacher_unit, dim=-1)
    are_zero = (across == 0) & (along == 0)
    return (2 * torch.atan2(across, along)).masked_fill(are_zero, math.pi / 2).mean()


def attention_transfer(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """mean((q_s / ||q_s|| - q_t / ||q_t||)^2) over rows and positions, q = the sum over channels of squares, flattened.

    Zagoruyko, Komodakis (2017), section 3.1, with F_sum^2; the mean of squares is that of the authors' code. Equation 2
    of the paper has half the norm of the same difference d instead: H W / (2 ||d||) times this, which is 100 for
    unrelated maps of 8 x 8, so a weight found with one is wrong for the other. A map of zeros attends to nothing.
    """
    _check_features(student_BCHW, teacher_BCHW, loss="attention")
    student_B1HW, teacher_B1HW = _same_sizes(_energy(student_BCHW), _energy(teacher_BCHW))
    return functional.mse_loss(
        normalised(student_B1HW.flatten(start_dim=1)), normalised(teacher_B1HW.flatten(start_dim=1))
    )


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-D: Huber loss (delta 1) between ||x_i - x_j|| / mu of student and teacher, mean over pairs of distinct rows.

    Park, Kim, Lu, Cho (2019), section 3.2.1; mu is each model's own mean distance between distinct rows of the batch.
    The paper has the sum over pairs; the authors' code a mean that also counts each row with itself, 1 - 1/B of this.
    0 for a single row.
    """
    return _distance_loss(*_relative_distances(student, teacher))


def relational_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-A: Huber loss (delta 1) between cos(x_i - x_j, x_k - x_j) of both, mean over triples of distinct rows.

    Park, Kim, Lu, Cho (2019), section 3.2.2; as there, the cosine is compared and not the angle. The paper has the sum,
    the authors' code a mean over all B^3, which is (B - 1) (B - 2) / B^2 of this. The cosine is 0 where row j coincides
    with i or k. 0 for fewer than 3 rows.
    Holds a few tensors of B^3 / 2 numbers, 32 MiB each at B = 256, however wide the feature.
    """
    return _angle_loss(*_relative_distances(student, teacher))


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """RKD-DA: RKD-D + 2 RKD-A (Park, Kim, Lu, Cho, 2019), weighted against each other as in the authors' commands.

    Their code has (1 - 1/B) RKD-D + 2 (B - 1) (B - 2) / B^2 RKD-A, see above: at B = 8 .88 and .66 of the two, at B =
    128 .99 and .98.
    """
    student_BB, teacher_BB = _relative_distances(student, teacher)
    return _distance_loss(student_BB, teacher_BB) + RELATIONAL_ANGLE_WEIGHT * _angle_loss(student_BB, teacher_BB)


LOSSES: Mapping[FeatureLossName, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mean_squared_error,
    "cosine": cosine_distance,
    "angle": cosine_angle,
    "attention": attention_transfer,
    "relational": relational,
    "relational_distance": relational_distance,
    "relational_angle": relational_angle,
}


def check_comparable(
    student_shape: Sequence[int],
    teacher_shape: Sequence[int],
    *,
    loss: FeatureLossName,
    layer: str = "the student's layer",
    is_projected: bool = False,
) -> None:
    """Raises StoreMismatch unless the loss can compare features of these shapes, which are without B.

    With `is_projected` a projector will make their widths equal. `layer` names the student's feature.
    """
    found = f"{layer} gives {list(student_shape)} for a sample, the teacher's feature is {list(teacher_shape)}"
    ranks = {len(student_shape), len(teacher_shape)}
    if loss == "attention" and ranks != {3}:
        raise StoreMismatch(
            f"{found}: attention compares maps [C, H, W]. Store and tap layers that give them, unpooled."
        )
    if loss in ANY_WIDTH:
        return
    if len(ranks) > 1:
        raise StoreMismatch(
            f"{found}: {loss} compares equal ranks. Pool the student's layer as the feature was when it was stored, "
            f"e.g. LAYER:mean."
        )
    if not is_projected and width_of(student_shape) != width_of(teacher_shape):
        raise StoreMismatch(f"{found}: {loss} compares equal widths. Set projector = auto, or loss = relational.")
    if ranks != {3} and _positions(student_shape) != _positions(teacher_shape):
        raise StoreMismatch(
            f"{found}: {loss} compares position by position. Store and tap the layers pooled, e.g. LAYER:mean."
        )


def width_of(shape: Sequence[int]) -> int:
    """D of [D] and [L, D], C of [C, H, W]; a shape is without B."""
    return shape[0] if len(shape) > 2 else shape[-1]


def _positions(shape: Sequence[int]) -> list[int]:
    return list(shape[1:] if len(shape) > 2 else shape[:-1])


def _check_features(student: Tensor, teacher: Tensor, *, loss: FeatureLossName) -> None:
    assert len(student) == len(teacher), "both features are of one batch"
    check_comparable(student.shape[1:], teacher.shape[1:], loss=loss)


def _same_shapes(student: Tensor, teacher: Tensor, *, loss: FeatureLossName) -> tuple[Tensor, Tensor]:
    _check_features(student, teacher, loss=loss)
    student, teacher = student.float(), teacher.float()
    return _same_sizes(student, teacher) if student.ndim == 4 else (student, teacher)


def _same_sizes(student_BCHW: Tensor, teacher_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    (height, width), (teacher_height, teacher_width) = student_BCHW.shape[2:], teacher_BCHW.shape[2:]
    size = min(height, teacher_height), min(width, teacher_width)
    return _averaged_to(size, student_BCHW), _averaged_to(size, teacher_BCHW)


def _averaged_to(size: tuple[int, int], feature_BCHW: Tensor) -> Tensor:
    return feature_BCHW if feature_BCHW.shape[2:] == size else functional.adaptive_avg_pool2d(feature_BCHW, size)


def _both_normalised(student: Tensor, teacher: Tensor, *, loss: FeatureLossName) -> tuple[Tensor, Tensor]:
    student, teacher = _same_shapes(student, teacher, loss=loss)
    axis = 1 if student.ndim > 3 else -1
    return normalised(student.movedim(axis, -1)), normalised(teacher.movedim(axis, -1))


def normalised(vectors: Tensor) -> Tensor:
    """Each vector of the last axis at length 1; a zero vector stays 0, with gradient 0."""
    norm: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return (vectors / norm.clamp(min=TINY)).masked_fill(norm <= TINY, 0.0)


def _energy(feature_BCHW: Tensor) -> Tensor:
    """[B, 1, H, W]"""
    return feature_BCHW.float().square().sum(dim=1, keepdim=True)


def _relative_distances(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    _check_features(student, teacher, loss="relational")
    return _relative(_distances(student)), _relative(_distances(teacher))


def _distances(feature: Tensor) -> Tensor:
    """[B, B], from differences: by way of a matrix product, near rows would lose their digits."""
    rows = feature.float().reshape(len(feature), -1)
    distances_BB: Tensor = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return distances_BB


def _relative(distances_BB: Tensor) -> Tensor:
    mean = distances_BB.sum() / max(math.perm(len(distances_BB), 2), 1)
    return distances_BB / mean.clamp(min=TINY)


def _cosines(distances_BB: Tensor) -> Tensor:
    """[P, B], cos of the angle at row j between the rows i < k of each pair; 0 where j is too near to one of them.

    By the law of cosines, so that no [B, B, D] is built: 6 to 12 times as fast as from vectors at D = 512.
    """
    rows = len(distances_BB)
    first_P, second_P = torch.triu_indices(rows, rows, offset=1, device=distances_BB.device)
    to_first_PB, to_second_PB = distances_BB[first_P], distances_BB[second_P]
    across_P1 = distances_BB[first_P, second_P][:, None]
    is_angle_PB = (to_first_PB > NEAR) & (to_second_PB > NEAR)
    sides_PB = (2 * to_first_PB * to_second_PB).masked_fill(~is_angle_PB, math.inf)
    return (to_first_PB.square() + to_second_PB.square() - across_P1.square()) / sides_PB


def _distance_loss(student_BB: Tensor, teacher_BB: Tensor) -> Tensor:
    num_pairs = max(math.perm(len(student_BB), 2), 1)
    return functional.huber_loss(student_BB, teacher_BB, reduction="sum") / num_pairs  # the diagonals are 0


def _angle_loss(student_BB: Tensor, teacher_BB: Tensor) -> Tensor:
    num_triples = max(math.perm(len(student_BB), 3) // 2, 1)
    return functional.huber_loss(_cosines(student_BB), _cosines(teacher_BB), reduction="sum") / num_triples
