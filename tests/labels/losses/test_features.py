import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import get_args

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from softlab.errors import StoreMismatch
from softlab.labels.losses.features import (
    ANY_WIDTH,
    LOSSES,
    FeatureLossName,
    attention_transfer,
    check_comparable,
    cosine_angle,
    cosine_distance,
    feature_loss,
    mean_squared_error,
    relational,
    relational_angle,
    relational_distance,
)

# Shape letters: B rows in a batch, L positions, D features, C channels, H height, W width.

NAMES: tuple[FeatureLossName, ...] = get_args(FeatureLossName)


@dataclass(frozen=True)
class Pair:
    """One feature of a student, which learns, and of its teacher."""

    student: Tensor
    teacher: Tensor


def make_pair(
    student_shape: tuple[int, ...], teacher_shape: tuple[int, ...] | None = None, *, scale: float = 1.0, seed: int = 0
) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    student = (scale * torch.randn(student_shape, generator=generator)).requires_grad_()
    return Pair(student, 3 * torch.randn(teacher_shape or student_shape, generator=generator) + 0.5)


@st.composite
def pairs(draw: st.DrawFn, *, shapes: tuple[str, ...] = ("BD", "BLD", "BCHW"), max_rows: int = 4) -> Pair:
    """Of equal shapes."""
    sizes = st.integers(2, 5)
    shape = (draw(st.integers(1, max_rows)), *(draw(sizes) for _ in draw(st.sampled_from(shapes))[1:]))
    return make_pair(shape, scale=draw(st.sampled_from([0.01, 1.0, 100.0])), seed=draw(st.integers(0, 1000)))


@st.composite
def batches(draw: st.DrawFn) -> Pair:
    """Of any two shapes, with up to 6 rows."""
    rows = draw(st.integers(1, 6))
    shape = st.lists(st.integers(2, 5), min_size=1, max_size=3)
    scale = draw(st.sampled_from([0.01, 1.0, 100.0]))
    return make_pair((rows, *draw(shape)), (rows, *draw(shape)), scale=scale, seed=draw(st.integers(0, 1000)))


def gradient(loss: Tensor, student: Tensor) -> Tensor:
    (of_student,) = torch.autograd.grad(loss, student)
    return of_student


def assert_same(loss: Tensor, expected: Tensor, student: Tensor) -> None:
    """In value and gradient; the expected loss is in float64."""
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    found, wanted = gradient(loss, student), gradient(expected, student)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item() + 1e-8)


def vectors_of(feature: Tensor) -> Tensor:
    """float64 [vectors, their width], the vectors of all rows and positions."""
    by_position = feature.double().permute(0, 2, 3, 1) if feature.ndim == 4 else feature.double()
    return by_position.reshape(-1, by_position.shape[-1])


def plain_attention(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """The definition, row by row, for maps of one size."""
    rows = []
    for student_CHW, teacher_CHW in zip(student_BCHW.double(), teacher_BCHW.double(), strict=True):
        ours, theirs = (sum(channel**2 for channel in feature) for feature in (student_CHW, teacher_CHW))
        assert isinstance(ours, Tensor)
        assert isinstance(theirs, Tensor)
        rows.append(((ours / (ours**2).sum().sqrt() - theirs / (theirs**2).sum().sqrt()) ** 2).mean())
    return torch.stack(rows).mean()


def plain_maps(name: FeatureLossName, student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """The loss between maps of one size."""
    if name == "mse":
        return functional.mse_loss(student_BCHW, teacher_BCHW)
    cosines_BHW = functional.cosine_similarity(student_BCHW, teacher_BCHW, dim=1)
    return 1 - cosines_BHW.mean() if name == "cosine" else cosines_BHW.arccos().mean()


def shrunk(feature_BCHW: Tensor) -> Tensor:
    """To 4 x 3."""
    height, width = feature_BCHW.shape[2:]
    return functional.avg_pool2d(feature_BCHW, (height // 4, width // 3))


def mean_huber_over(
    tuples: Sequence[tuple[int, ...]], ours: Callable[..., Tensor], theirs: Callable[..., Tensor]
) -> Tensor:
    losses = [functional.smooth_l1_loss(ours(*rows), theirs(*rows)) for rows in tuples]
    return torch.stack(losses).mean()


def plain_distances(student: Tensor, teacher: Tensor) -> Tensor:
    """The definition, pair by pair."""
    pairs = list(permutations(range(len(student)), 2))

    def relative(feature: Tensor) -> Callable[[int, int], Tensor]:
        rows = feature.double().flatten(1)
        mean = torch.stack([(rows[i] - rows[j]).norm() for i, j in pairs]).mean()
        return lambda i, j: (rows[i] - rows[j]).norm() / mean

    return mean_huber_over(pairs, relative(student), relative(teacher))


def plain_angles(student: Tensor, teacher: Tensor) -> Tensor:
    """The definition, triple by triple."""

    def cosine(feature: Tensor) -> Callable[[int, int, int], Tensor]:
        rows = feature.double().flatten(1)
        return lambda i, j, k: functional.cosine_similarity(rows[i] - rows[j], rows[k] - rows[j], dim=0)

    return mean_huber_over(list(permutations(range(len(student)), 3)), cosine(student), cosine(teacher))


@given(pair=pairs())
def test_mse_is_that_of_torch(pair: Pair) -> None:
    loss = mean_squared_error(pair.student, pair.teacher)

    assert_same(loss, functional.mse_loss(pair.student.double(), pair.teacher.double()), pair.student)


@given(pair=pairs(shapes=("BD",)))
def test_mse_is_the_hint_loss_of_fitnets_but_for_its_documented_factor(pair: Pair) -> None:
    loss = mean_squared_error(pair.student, pair.teacher)

    hint = (0.5 * (pair.student - pair.teacher).double().square().sum(dim=1)).mean()
    torch.testing.assert_close(pair.student.shape[1] / 2 * loss.double(), hint, rtol=1e-5, atol=0)


@given(pair=pairs())
def test_cosine_is_one_less_the_cosine_of_each_position(pair: Pair) -> None:
    loss = cosine_distance(pair.student, pair.teacher)

    cosines = functional.cosine_similarity(vectors_of(pair.student), vectors_of(pair.teacher), dim=1)
    assert_same(loss, 1 - cosines.mean(), pair.student)


@given(pair=pairs())
def test_angle_is_the_arc_cosine_at_each_position(pair: Pair) -> None:
    loss = cosine_angle(pair.student, pair.teacher)

    cosines = functional.cosine_similarity(vectors_of(pair.student), vectors_of(pair.teacher), dim=1)
    assert_same(loss, cosines.arccos().mean(), pair.student)


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 1.0, math.pi / 2, math.pi - 1e-3, math.pi])
def test_an_angle_keeps_its_digits_where_the_cosine_is_flat(angle: float) -> None:
    teacher = torch.tensor([[1.0, 0.0]])
    student = torch.tensor([[math.cos(angle), math.sin(angle)]])

    loss = cosine_angle(student, teacher)

    assert loss.item() == pytest.approx(angle, rel=1e-5)


def test_a_nearly_parallel_student_is_still_turned_at_full_strength() -> None:
    student = torch.tensor([[1.0, 1e-5]], requires_grad=True)

    loss = cosine_angle(student, torch.tensor([[1.0, 0.0]]))

    torch.testing.assert_close(gradient(loss, student), torch.tensor([[-1e-5, 1.0]]), rtol=1e-4, atol=1e-6)


@given(pair=pairs(shapes=("BCHW",)))
def test_attention_is_the_squared_difference_of_normalised_maps(pair: Pair) -> None:
    loss = attention_transfer(pair.student, pair.teacher)

    assert_same(loss, plain_attention(pair.student, pair.teacher), pair.student)


def test_attention_compares_any_numbers_of_channels() -> None:
    pair = make_pair((3, 2, 4, 5), (3, 7, 4, 5))

    loss = attention_transfer(pair.student, pair.teacher)

    assert_same(loss, plain_attention(pair.student, pair.teacher), pair.student)


def test_attention_sees_where_a_map_is_strong_and_not_how_strong() -> None:
    pair = make_pair((3, 2, 4, 5))

    loss = attention_transfer(1e-3 * pair.teacher, -pair.teacher)

    assert loss.item() == pytest.approx(0, abs=1e-12)


def test_attention_of_the_paper_is_larger_by_the_documented_factor() -> None:
    pair = make_pair((1, 2, 8, 8))
    ours, theirs = (functional.normalize(each.square().sum(1).flatten(1)) for each in (pair.student, pair.teacher))
    norm = (ours - theirs).norm()

    loss = attention_transfer(pair.student, pair.teacher)

    torch.testing.assert_close(0.5 * norm, 64 / (2 * norm) * loss)


@given(pair=batches())
def test_relational_distance_is_that_of_all_pairs(pair: Pair) -> None:
    loss = relational_distance(pair.student, pair.teacher)

    if len(pair.student) < 2:
        assert loss.item() == 0
    else:
        assert_same(loss, plain_distances(pair.student, pair.teacher), pair.student)


def are_apart(features_BD: Tensor) -> bool:
    """Whether no two rows nearly coincide: an angle between them would be rounding."""
    flat_BD = features_BD.detach().flatten(start_dim=1)
    return bool((torch.pdist(flat_BD) > 0.1 * flat_BD.norm(dim=1).max()).all())


@given(pair=batches())
def test_relational_angle_is_that_of_all_triples(pair: Pair) -> None:
    assume(are_apart(pair.student) and are_apart(pair.teacher))

    loss = relational_angle(pair.student, pair.teacher)

    if len(pair.student) < 3:
        assert loss.item() == 0
    else:
        assert_same(loss, plain_angles(pair.student, pair.teacher), pair.student)


def test_rows_that_coincide_form_no_angle() -> None:
    pair = make_pair((6, 3))
    teacher = pair.teacher[[0, 0, 1, 2, 2, 2]]

    loss = relational_angle(pair.student, teacher)

    assert_same(loss, plain_angles(pair.student, teacher), pair.student)


def test_relational_weighs_angles_twice() -> None:
    pair = make_pair((5, 3), (5, 8))

    loss = relational(pair.student, pair.teacher)

    expected = plain_distances(pair.student, pair.teacher) + 2 * plain_angles(pair.student, pair.teacher)
    assert_same(loss, expected, pair.student)


@given(factor=st.sampled_from([1e-4, 1.0, 1e4]), shift=st.floats(-10, 10), seed=st.integers(0, 1000))
def test_relations_do_not_change_when_all_rows_are_turned_scaled_and_moved(
    factor: float, shift: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher_BD = torch.randn(6, 5, generator=generator)
    rotation_DD = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q

    loss = relational(factor * (teacher_BD @ rotation_DD + shift), teacher_BD)

    assert loss.item() == pytest.approx(0, abs=1e-8)


def test_angles_between_rows_that_lie_close_together_and_far_from_zero_keep_their_digits() -> None:
    pair = make_pair((6, 16), scale=0.01)
    student = (1 + pair.student).detach().requires_grad_()

    loss = relational_angle(student, pair.teacher)

    assert_same(loss, plain_angles(student, pair.teacher), student)


@pytest.mark.parametrize("name", ["mse", "cosine", "angle"])
@pytest.mark.parametrize(
    ("student_size", "teacher_size"),
    [
        ((8, 6), (4, 3)),
        ((4, 3), (8, 6)),
        ((8, 3), (4, 6)),  # larger one way, smaller the other
    ],
)
def test_larger_maps_are_averaged_down_to_the_smaller(
    name: FeatureLossName, student_size: tuple[int, int], teacher_size: tuple[int, int]
) -> None:
    pair = make_pair((2, 5, *student_size), (2, 5, *teacher_size))

    loss = feature_loss(pair.student, pair.teacher, loss=name)

    ours, theirs = (shrunk(each.double()) for each in (pair.student, pair.teacher))
    assert_same(loss, plain_maps(name, ours, theirs), pair.student)


def test_attention_averages_the_attention_and_not_what_it_is_made_of() -> None:
    pair = make_pair((2, 5, 8, 6), (2, 5, 4, 3))

    loss = attention_transfer(pair.student, pair.teacher)

    ours, theirs = (shrunk(each.double().square()).sum(dim=1).flatten(1) for each in (pair.student, pair.teacher))
    assert_same(loss, functional.mse_loss(functional.normalize(ours), functional.normalize(theirs)), pair.student)


@pytest.mark.parametrize("name", NAMES)
def test_each_name_has_its_loss(name: FeatureLossName) -> None:
    pair = make_pair((4, 3, 5, 5))

    loss = feature_loss(pair.student, pair.teacher, loss=name)

    assert set(LOSSES) == set(NAMES)
    torch.testing.assert_close(loss, LOSSES[name](pair.student, pair.teacher))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_student_that_has_the_features_of_the_teacher_loses_nothing(name: FeatureLossName, rows: int) -> None:
    teacher = make_pair((rows, 3, 5, 5)).teacher
    student = teacher.clone().requires_grad_()

    loss = feature_loss(student, teacher, loss=name)

    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert gradient(loss, student).abs().max().item() < 1e-6


def degenerate() -> dict[str, Pair]:
    student, teacher = make_pair((4, 3, 5, 5)).student.detach(), make_pair((4, 3, 5, 5)).teacher
    zeros = torch.zeros_like(teacher)
    one_dead_row = student * torch.tensor([1.0, 0.0, 1.0, 1.0])[:, None, None, None]
    return {
        "a student of zeros": Pair(zeros, teacher),
        "a teacher of zeros": Pair(student, zeros),
        "both of zeros": Pair(zeros, zeros),
        "a row of zeros": Pair(one_dead_row, teacher),
        "a student of almost zeros": Pair(torch.full_like(student, 1e-30), teacher),
        "denormal numbers": Pair(1e-42 * student, 1e-42 * teacher),
        "equal features": Pair(teacher, teacher),
        "opposite features": Pair(-teacher, teacher),
        "rows of the student that are all equal": Pair(student[:1].expand(4, -1, -1, -1), teacher),
        "rows of the teacher that are all equal": Pair(student, teacher[:1].expand(4, -1, -1, -1)),
        "two equal rows": Pair(student[[0, 0, 1, 2]], teacher),
        "two rows that are nearly equal": Pair(student[[0, 0, 1, 2]] + 1e-7 * one_dead_row, teacher),
        "rows on a line": Pair(torch.arange(4.0)[:, None, None, None] * student[:1], teacher),
        "a single row": Pair(student[:1], teacher[:1]),
        "two rows": Pair(student[:2], teacher[:2]),
        "the largest of float16": Pair(student, 65504 * teacher.sign()),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", degenerate())
def test_degenerate_features_have_a_finite_loss_and_gradient(name: FeatureLossName, case: str) -> None:
    pair = degenerate()[case]
    student = pair.student.clone().requires_grad_()

    loss = feature_loss(student, pair.teacher, loss=name)

    assert loss.isfinite()
    assert gradient(loss, student).isfinite().all()


@pytest.mark.parametrize(("name", "expected"), [("cosine", 1.0), ("angle", math.pi / 2)])
@pytest.mark.parametrize("zero", ["student", "teacher", "both"])
def test_a_zero_vector_is_at_a_right_angle_to_everything_and_is_not_moved(
    name: FeatureLossName, expected: float, zero: str
) -> None:
    student = torch.zeros(1, 3) if zero != "teacher" else torch.ones(1, 3)
    teacher = torch.zeros(1, 3) if zero != "student" else torch.ones(1, 3)
    student.requires_grad_()

    loss = feature_loss(student, teacher, loss=name)

    assert loss.item() == pytest.approx(expected)
    assert gradient(loss, student).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("name", NAMES)
def test_features_in_half_precision_have_their_loss_in_float32(name: FeatureLossName) -> None:
    pair = make_pair((4, 3, 5, 5))
    student, teacher = pair.student.bfloat16(), pair.teacher.half()

    loss = feature_loss(student, teacher, loss=name)

    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, feature_loss(student.float(), teacher.float(), loss=name), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name: FeatureLossName) -> None:
    pair = make_pair((4, 3, 5, 5), (4, 3, 4, 4))

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = feature_loss(pair.student, pair.teacher, loss=name)

    expected = feature_loss(pair.student, pair.teacher, loss=name)
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient(loss, pair.student), gradient(expected, pair.student), rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_computes_the_same_loss(name: FeatureLossName) -> None:
    pair = make_pair((16, 3, 5, 5), (16, 3, 4, 4))

    loss = feature_loss(pair.student.cuda(), pair.teacher.cuda(), loss=name)

    torch.testing.assert_close(loss.cpu(), feature_loss(pair.student, pair.teacher, loss=name), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "student_shape", "teacher_shape", "problem"),
    [
        (
            "mse",
            (64,),
            (128,),
            "the student's layer gives [64] for a sample, the teacher's feature is [128]: mse compares equal widths. "
            "Set projector = auto, or loss = relational.",
        ),
        ("cosine", (16, 64), (16, 128), "cosine compares equal widths."),
        ("angle", (64, 7, 7), (128, 7, 7), "angle compares equal widths."),
        ("mse", (64, 7, 7), (64,), "mse compares equal ranks. Pool the student's layer as the feature was when"),
        ("mse", (16, 64), (49, 64), "mse compares position by position. Store and tap the layers pooled"),
        ("mse", (8, 4, 7, 7), (8, 2, 7, 7), "mse compares position by position."),
        ("attention", (64,), (128,), "attention compares maps [C, H, W]. Store and tap layers that give them"),
        ("attention", (64, 7, 7), (49, 64), "attention compares maps [C, H, W]."),
    ],
)
def test_shapes_that_a_loss_can_not_compare_are_refused(
    name: FeatureLossName, student_shape: tuple[int, ...], teacher_shape: tuple[int, ...], problem: str
) -> None:
    with pytest.raises(StoreMismatch, match=re.escape(problem)):
        check_comparable(student_shape, teacher_shape, loss=name)
    with pytest.raises(StoreMismatch, match=re.escape(problem)):
        feature_loss(torch.zeros(2, *student_shape), torch.zeros(2, *teacher_shape), loss=name)


def test_a_refusal_names_the_layer_where_it_is_known() -> None:
    with pytest.raises(StoreMismatch, match=re.escape("layer `pool:mean` gives [64] for a sample")):
        check_comparable([64], [128], loss="mse", layer="layer `pool:mean`")


@pytest.mark.parametrize("name", sorted(ANY_WIDTH - {"attention"}))
def test_relations_compare_features_of_any_shape(name: FeatureLossName) -> None:
    pair = make_pair((4, 3), (4, 2, 5, 5))

    loss = feature_loss(pair.student, pair.teacher, loss=name)

    assert loss.item() > 0


def relations_over_all_rows(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Relative distances [B, B] and cosines [B, B, B], from vectors, equal rows and all."""
    from_to = feature[None] - feature[:, None]
    distances = torch.linalg.vector_norm(from_to, dim=-1)
    units = from_to / distances.clamp(min=1e-12)[..., None]
    return distances / distances[distances > 0].mean(), units @ units.transpose(1, 2)


@pytest.mark.parametrize("rows", [2, 3, 8])
def test_the_mean_over_all_rows_is_a_fixed_share_of_the_relational_losses(rows: int) -> None:
    """As the authors' code has it."""
    generator = torch.Generator().manual_seed(rows)
    student, teacher = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for width in (5, 9))

    pairs = zip(relations_over_all_rows(student), relations_over_all_rows(teacher), strict=True)
    distance, angle = (functional.huber_loss(ours, theirs).item() for ours, theirs in pairs)

    ours = relational_distance(student, teacher).item(), relational_angle(student, teacher).item()
    assert distance == pytest.approx((1 - 1 / rows) * ours[0], rel=1e-5)
    assert angle == pytest.approx((rows - 1) * (rows - 2) / rows**2 * ours[1], rel=1e-5, abs=1e-9)
