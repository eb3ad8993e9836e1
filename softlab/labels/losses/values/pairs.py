"""Cross-entropy between how two models match the two halves of pairs, such as images and their texts."""

# Shape letters: B pairs in a batch, D numbers of a teacher's vector, E of a student's.

from torch import Tensor

from softlab.errors import StoreMismatch
from softlab.labels.losses.features import normalised


def pair_matching_loss(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    *,
    student_scale: Tensor | float,
    teacher_scale: Tensor | float,
) -> Tensor:
    """-sum t log s of t = softmax(scale * cos(i, j)) over the batch, of the first halves to the second and back, the
    mean of both and over rows; a float32 scalar, in nats.

    Affinity mimicking (TinyCLIP, Wu et al. 2023), as open_clip's DistillClipLoss computes it: a cross-entropy, so that
    of a student that matches as its teacher does the teacher's entropy is left. Vectors are normalised. Scales are what
    cosines are multiplied by, exp of CLIP's logit scale: a number, or as it is stored, one a row, all the same. The
    vectors are [B, E] of the student and [B, D] of the teacher. Raises StoreMismatch for other shapes.
    """
    _check_pairs(student, "the student")
    _check_pairs(teacher, "what is stored")
    if len(student[0]) != len(teacher[0]):
        raise StoreMismatch(
            f"the student gives {len(student[0]):,} pairs, and {len(teacher[0]):,} are stored. Give those of one batch."
        )
    own_BB, theirs_BB = _logits(student, student_scale), _logits(teacher, teacher_scale)
    both = (_cross_entropy(theirs_BB, own_BB), _cross_entropy(theirs_BB.T, own_BB.T))
    return (both[0] + both[1]) / 2


def _logits(halves: tuple[Tensor, Tensor], scale: Tensor | float) -> Tensor:
    first_BD, second_BD = (normalised(half.float()) for half in halves)
    factor = scale.float().reshape(-1)[0] if isinstance(scale, Tensor) else scale
    return factor * first_BD @ second_BD.T


def _cross_entropy(teacher_BB: Tensor, student_BB: Tensor) -> Tensor:
    return -(teacher_BB.softmax(dim=1) * student_BB.log_softmax(dim=1)).sum(dim=1).mean()


def _check_pairs(halves: tuple[Tensor, Tensor], where: str) -> None:
    first, second = halves
    if first.ndim != 2 or first.shape != second.shape:
        raise StoreMismatch(
            f"{where}: has vectors {list(first.shape)} and {list(second.shape)}, and pairs are matched by two of equal "
            f"shape [B, D]. Project them to one width first."
        )
