import re
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.losses.features import ANY_WIDTH, LOSSES, FeatureLossName, feature_loss
from softlab.student.feature_losses import Normalisation
from softlab.student.projector import Projector, make_projector

# Shape letters: B rows in a batch, L positions, D features, C channels, H height, W width.

Shape = tuple[int, ...]


def random_feature(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def projector(
    kind: Literal["linear", "conv1x1"], *, normalisation: Normalisation = "none", from_width: int = 4, to_width: int = 6
) -> Projector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Projector(from_width, to_width, kind=kind, normalisation=normalisation)


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape", "kind", "projected_shape"),
    [
        ((4,), (6,), "auto", (6,)),
        ((4,), (6,), "linear", (6,)),
        ((4,), (4,), "linear", (4,)),
        ((5, 4), (5, 6), "auto", (5, 6)),
        ((5, 4), (5, 6), "linear", (5, 6)),
        ((4, 7, 7), (6, 7, 7), "auto", (6, 7, 7)),
        ((4, 7, 7), (6, 7, 7), "conv1x1", (6, 7, 7)),
        ((4, 7, 7), (6, 14, 14), "auto", (6, 7, 7)),  # the loss averages the teacher's map
        ((4, 14, 14), (6, 7, 7), "auto", (6, 14, 14)),
        ((7, 4, 4), (6, 4, 4), "conv1x1", (6, 4, 4)),
    ],
)
@pytest.mark.parametrize("normalisation", ["none", "batch", "layer"])
def test_a_projected_feature_has_the_width_of_the_teacher(
    student_shape: Shape, teacher_shape: Shape, kind: Any, projected_shape: Shape, normalisation: Normalisation
) -> None:
    module = make_projector(student_shape, teacher_shape, kind=kind, normalisation=normalisation)

    projected = module(random_feature(3, *student_shape))

    assert projected.shape == (3, *projected_shape)
    for loss in ("mse", "cosine", "angle"):
        assert feature_loss(projected, random_feature(3, *teacher_shape), loss=loss).isfinite()


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape", "kind", "loss"),
    [
        ((4,), (4,), "auto", "mse"),
        ((4,), (4,), "none", "mse"),
        ((5, 4), (5, 4), "auto", "cosine"),
        ((4, 14, 14), (4, 7, 7), "auto", "mse"),
        ((4, 14, 14), (4, 7, 7), "none", "angle"),
        ((2, 3, 4, 5), (2, 3, 4, 5), "auto", "mse"),
        ((4, 14, 14), (6, 7, 7), "auto", "attention"),
        ((4, 14, 14), (6, 7, 7), "none", "attention"),
        ((4,), (6,), "auto", "relational"),
        ((4,), (6, 7, 7), "none", "relational_angle"),
    ],
)
def test_nothing_is_projected_where_the_loss_compares_the_features_as_they_are(
    student_shape: Shape, teacher_shape: Shape, kind: Any, loss: FeatureLossName
) -> None:
    module = make_projector(student_shape, teacher_shape, kind=kind, loss=loss)

    assert isinstance(module, nn.Identity)
    assert LOSSES[loss](random_feature(3, *student_shape), random_feature(3, *teacher_shape)).isfinite()


@pytest.mark.parametrize("loss", sorted(ANY_WIDTH))
def test_a_projector_that_is_asked_for_is_built_for_any_loss(loss: FeatureLossName) -> None:
    module = make_projector((4, 7, 7), (6, 7, 7), kind="conv1x1", loss=loss)

    assert module(random_feature(3, 4, 7, 7)).shape == (3, 6, 7, 7)


def test_auto_projects_equal_widths_where_a_normalisation_is_asked_for() -> None:
    module = make_projector((4,), (4,), normalisation="layer")

    assert isinstance(module, Projector)


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4)])
def test_linear_is_a_linear_layer_at_each_position(shape: Shape) -> None:
    module, feature = projector("linear"), random_feature(*shape)

    projected = module(feature)

    torch.testing.assert_close(projected, functional.linear(feature, module.linear.weight, module.linear.bias))


def test_conv1x1_is_a_convolution() -> None:
    module, feature_BCHW = projector("conv1x1"), random_feature(3, 4, 5, 2)

    projected_BCHW = module(feature_BCHW)

    expected = functional.conv2d(feature_BCHW, module.linear.weight[:, :, None, None], module.linear.bias)
    torch.testing.assert_close(projected_BCHW, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(each.square().sum(), feature_BCHW)[0] for each in (projected_BCHW, expected))
    )


def test_a_projected_map_may_be_averaged_before_or_after() -> None:
    module, feature_BCHW = projector("conv1x1"), random_feature(3, 4, 6, 6)

    projected_BCHW = module(feature_BCHW)

    before = module(functional.avg_pool2d(feature_BCHW, 2))
    torch.testing.assert_close(functional.avg_pool2d(projected_BCHW, 2), before)


def test_batch_is_batch_normalisation_over_rows_and_positions() -> None:
    module, feature_BCHW = projector("conv1x1", normalisation="batch"), random_feature(3, 4, 5, 2)

    projected_BCHW = module(feature_BCHW)

    convolved = functional.conv2d(feature_BCHW, module.linear.weight[:, :, None, None])
    torch.testing.assert_close(projected_BCHW, functional.batch_norm(convolved, None, None, training=True))


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4)])
def test_layer_is_layer_normalisation_of_each_vector(shape: Shape) -> None:
    module, feature = projector("linear", normalisation="layer"), random_feature(*shape)

    projected = module(feature)

    linear = functional.linear(feature, module.linear.weight, module.linear.bias)
    torch.testing.assert_close(projected, functional.layer_norm(linear, (6,)))


def test_layer_normalises_the_channels_of_each_position_of_a_map() -> None:
    module, feature_BCHW = projector("conv1x1", normalisation="layer"), random_feature(3, 4, 5, 2)

    projected_BCHW = module(feature_BCHW)

    torch.testing.assert_close(projected_BCHW.mean(dim=1), torch.zeros(3, 5, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize("normalisation", ["none", "batch", "layer"])
def test_both_the_student_and_the_projector_learn(normalisation: Normalisation) -> None:
    module, feature = projector("linear", normalisation=normalisation), random_feature(3, 4)

    loss = feature_loss(module(feature), random_feature(3, 6, seed=1))

    gradients = torch.autograd.grad(loss, [feature, *module.parameters()])
    assert all(gradient.abs().sum() > 1e-4 for gradient in gradients)


def test_a_projector_finds_the_map_from_the_student_to_the_teacher() -> None:
    student_BD = random_feature(64, 4).detach()
    teacher_BD = student_BD @ random_feature(4, 6, seed=1).detach() + 2
    module = projector("linear")
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)

    for _ in range(200):
        optimizer.zero_grad()
        feature_loss(module(student_BD), teacher_BD).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    assert feature_loss(module(student_BD), teacher_BD).item() < 1e-4


@pytest.mark.parametrize("normalisation", ["none", "batch", "layer"])
def test_a_half_precision_feature_is_projected_in_float32_under_autocast_too(normalisation: Normalisation) -> None:
    module, feature = projector("linear", normalisation=normalisation), random_feature(3, 4).bfloat16()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = module(feature)

    assert projected.dtype == torch.float32
    torch.testing.assert_close(projected, module(feature.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("student_shape", "teacher_shape", "kind", "problem"),
    [
        (
            (4,),
            (6,),
            "none",
            "gives [4] for a sample, the teacher's feature is [6]: mse compares equal widths. Set proj",
        ),
        (
            (4,),
            (6, 7, 7),
            "auto",
            "mse compares equal ranks. Pool the student's layer as the feature was when it was st",
        ),
        (
            (4,),
            (6, 7, 7),
            "linear",
            "the teacher's feature is [6, 7, 7]: projector = linear and conv1x1 keep the rank.",
        ),
        (
            (16, 4),
            (49, 6),
            "auto",
            "mse compares position by position. Store and tap the layers pooled, e.g. LAYER:mean",
        ),
        ((4, 2, 7, 7), (6, 2, 7, 7), "auto", "expected [D], [L, D] or [C, H, W] to project. Store and tap the layers"),
    ],
)
def test_features_that_no_projection_makes_comparable_are_refused(
    student_shape: Shape, teacher_shape: Shape, kind: Any, problem: str
) -> None:
    with pytest.raises(StoreMismatch, match=re.escape(problem)) as caught:
        make_projector(student_shape, teacher_shape, kind=kind, layer="layer `fc`")

    assert str(caught.value).startswith(f"layer `fc` gives {list(student_shape)} for a sample")


def test_attention_to_what_is_not_a_map_is_refused() -> None:
    with pytest.raises(StoreMismatch, match=re.escape("attention compares maps [C, H, W]")):
        make_projector((4,), (6,), loss="attention")


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((4,), "conv1x1", "projector = conv1x1: layer `fc` gives [4] for a sample, expected [C, H, W]. "),
        ((5, 4), "conv1x1", "projector = conv1x1: layer `fc` gives [5, 4] for a sample, expected [C, H, W]. "),
        ((4, 7, 7), "linear", "projector = linear: layer `fc` gives [4, 7, 7] for a sample, expected [D] or [L, D]. "),
        ((), "linear", "projector = linear: layer `fc` gives [] for a sample, expected [D] or [L, D]. "),
    ],
)
def test_a_kind_that_does_not_project_such_a_shape_is_refused(shape: Shape, kind: Any, message: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        make_projector(shape, shape, kind=kind, layer="layer `fc`")

    assert str(caught.value) == message + "Set projector = auto."


def test_a_normalisation_of_what_is_not_projected_is_refused() -> None:
    with pytest.raises(InvalidOption, match=re.escape("Set projector = auto, or normalisation = none.")):
        make_projector((4,), (4,), kind="none", normalisation="batch")


def test_a_layer_that_gives_one_number_a_sample_is_refused() -> None:
    with pytest.raises(StoreMismatch, match=re.escape("the student's layer gives [] for a sample")):
        make_projector((), (6,))
