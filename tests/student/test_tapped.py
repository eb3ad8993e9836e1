# Shape letters: B rows in a batch, C channels, H height, W width.

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import ModelError, StoreMismatch
from softlab.student.feature_losses import FeatureLoss
from softlab.student.tapped import TappedStudent
from tests.modalities.images.batches import images_in
from tests.student.pictures import feature_batch, make_student

CPU = torch.device("cpu")
BATCH = feature_batch()
IMAGES_BCHW = images_in(BATCH)


def make_tapped(features: dict[str, FeatureLoss], module: nn.Module | None = None, *, seed: int = 0) -> TappedStudent:
    return TappedStudent(
        "small",
        module or make_student(batch_norm=False),
        features,
        device=CPU,
        autocast="none",
        compiled=False,
        example=BATCH if features else None,
        seed=seed,
    )


def convolved(module: nn.Module) -> Tensor:
    feature_BCHW: Tensor = module.get_submodule("conv")(IMAGES_BCHW)
    return feature_BCHW


def test_logits_are_those_of_the_module() -> None:
    module = make_student(batch_norm=False)
    tapped = make_tapped({"map": FeatureLoss(layer="conv")}, module)

    logits, _ = tapped.logits_and_features(BATCH)

    torch.testing.assert_close(logits, module(IMAGES_BCHW), rtol=0, atol=0)
    torch.testing.assert_close(tapped.logits(BATCH), logits, rtol=0, atol=0)


def test_a_feature_of_the_teachers_width_is_that_of_the_layer() -> None:
    module = make_student(batch_norm=False)

    _, features = make_tapped({"same": FeatureLoss(layer="conv:mean")}, module).logits_and_features(BATCH)

    assert features.keys() == {"same"}
    torch.testing.assert_close(features["same"], convolved(module).mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["mean", "values"])
def test_a_feature_of_another_width_is_projected_to_the_teachers(name: str) -> None:
    module = make_student(batch_norm=False)
    tapped = make_tapped({name: FeatureLoss(layer="conv:mean")}, module, seed=7)

    _, features = tapped.logits_and_features(BATCH)

    with torch.random.fork_rng():
        torch.manual_seed(7)
        projector = nn.Linear(4, 2)
    torch.testing.assert_close(features[name], projector(convolved(module).mean(dim=(2, 3))))


def test_all_that_trains_are_the_modules_parameters_and_the_projectors() -> None:
    module = make_student()
    module.get_submodule("conv").requires_grad_(False)

    tapped = make_tapped({"mean": FeatureLoss(layer="conv:mean"), "map": FeatureLoss(layer="conv")}, module)

    own = [parameter for parameter in module.parameters() if parameter.requires_grad]
    shapes = [tuple(parameter.shape) for parameter in tapped.parameters[len(own) :]]
    assert all(found is expected for found, expected in zip(tapped.parameters, own, strict=False))
    assert shapes == [(2, 4), (2,), (2, 4), (2,)]


def test_a_features_gradient_reaches_the_layers_below_it_and_its_projector() -> None:
    module = make_student(batch_norm=False)
    tapped = make_tapped({"mean": FeatureLoss(layer="conv:mean")}, module)

    _, features = tapped.logits_and_features(BATCH)
    features["mean"].square().sum().backward()  # type: ignore[no-untyped-call]

    with_gradient = {name for name, parameter in module.named_parameters() if parameter.grad is not None}
    assert with_gradient == {"conv.weight", "conv.bias"}
    assert all(parameter.grad is not None for parameter in tapped.projectors.parameters())


def test_the_global_random_state_is_left_as_it_was() -> None:
    before = torch.get_rng_state()

    make_tapped({"mean": FeatureLoss(layer="conv:mean")})

    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("features", [{}, {"mean": FeatureLoss(layer="conv:mean")}])
def test_nothing_listens_after_a_forward(features: dict[str, FeatureLoss]) -> None:
    module = make_student()

    tapped = make_tapped(features, module)
    tapped.logits_and_features(BATCH)

    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        pytest.param(
            {"mean": FeatureLoss(layer="nose")}, ModelError, "Sequential has no layer 'nose'", id="no such layer"
        ),
        pytest.param(
            {"mean": FeatureLoss(layer="conv:mean", projector="none")},
            StoreMismatch,
            r"student small: layer conv:mean gives \[4\] for a sample, the teacher's feature is \[2\]: mse compares "
            r"equal widths\. Set projector = auto",
            id="other widths",
        ),
        pytest.param(
            {"map": FeatureLoss(layer="conv:mean")},
            StoreMismatch,
            r"student small: layer conv:mean gives \[4\] for a sample, the teacher's feature is \[2, 4, 6\]",
            id="other ranks",
        ),
        pytest.param(
            {"mean": FeatureLoss(layer="conv", loss="attention")},
            StoreMismatch,
            r"attention compares maps \[C, H, W\]",
            id="attention without maps",
        ),
    ],
)
def test_a_feature_that_can_not_be_learnt_is_refused(
    features: dict[str, FeatureLoss], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_tapped(features)


def test_a_layer_that_does_not_run_is_refused() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = make_student(), nn.Linear(2, 2)

        def forward(self, images_BCHW: Tensor) -> Any:
            return self.used(images_BCHW)

    with pytest.raises(ModelError, match="layer `unused` gave nothing in the last forward"):
        make_tapped({"mean": FeatureLoss(layer="unused")}, Idle())
