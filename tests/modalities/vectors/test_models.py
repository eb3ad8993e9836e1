import pytest
import torch
from torch import nn

from softlab.errors import ModelError
from softlab.models.build import ModelOptions, build_model

TOLD = {"num_inputs": 36, "num_channels": 3, "length": 12}


def build(name: str, **arguments: object) -> nn.Module:
    return build_model(ModelOptions(model=f"softlab:{name}", arguments=arguments), told=TOLD)


@pytest.mark.parametrize("name", ["vectors_mlp", "vectors_conv"])
def test_reference_models_take_windows_and_know_their_size(name: str) -> None:
    assert build(name, num_classes=5)(torch.zeros(4, 3, 12)).shape == (4, 5)


def test_a_flat_vector_is_one_channel() -> None:
    assert build("vectors_conv", num_channels=1)(torch.zeros(4, 36)).shape == (4, 2)
    assert build("vectors_mlp")(torch.zeros(4, 36)).shape == (4, 2)


def test_an_mlp_without_layers_is_linear() -> None:
    model = build("vectors_mlp", num_layers=0)

    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * 36 + 2


def test_a_convolution_sees_the_order_of_steps() -> None:
    torch.manual_seed(0)
    model, window = build("vectors_conv").eval(), torch.randn(1, 3, 12)

    assert not torch.allclose(model(window), model(window.flip(2)))


def test_a_model_that_no_input_was_told_of_names_what_it_lacks() -> None:
    with pytest.raises(ModelError, match="num_inputs"):
        build_model(ModelOptions(model="softlab:vectors_mlp"))
