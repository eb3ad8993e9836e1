# Shape letters: B images in a batch, C channels, H height, W width, L positions, E entries of an embedding.

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from softlab.errors import InvalidOption, ModelError
from softlab.evaluation.cost import ModelCost, describe_model
from softlab.modalities.inputs import Inputs
from softlab.models.build import ModelOptions, build_model


def describe(module: nn.Module, *, size: tuple[int, ...] = (3, 8, 8), batch_size: int = 2) -> ModelCost:
    return describe_model(module, Inputs(positional=(torch.randn(1, *size),)), batch_size=batch_size)


def small_net() -> nn.Sequential:
    """For images [3, 8, 8]."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


class Attention(nn.Module):
    """A classifier of images by one transformer layer; each row of pixels is a position."""

    def __init__(self, *, embedding: int, hidden: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(embedding, nhead=2, dim_feedforward=hidden, batch_first=True)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BE: Tensor = self.layer(images_BCHW[:, 0]).mean(dim=1)
        return logits_BE


# Parameters and arithmetic.


def test_a_small_net_costs_what_a_count_by_hand_gives() -> None:
    found = describe(small_net())

    first_conv, second_conv, linear = (8 * 8) * 4 * (3 * 3 * 3), (4 * 4) * 6 * (2 * 3 * 3), 6 * 5
    assert found.multiply_adds == first_conv + second_conv + linear
    assert found.num_parameters == (4 * 27 + 4) + (4 + 4) + 6 * 18 + (6 * 5 + 5)


def test_the_count_is_half_the_operations_of_torchs_own_counter() -> None:
    module = build_model(ModelOptions(model="softlab:grey_resnet")).eval()
    counter = FlopCounterMode(display=False)
    with counter:
        module(torch.randn(1, 1, 28, 28))

    found = describe(module, size=(1, 28, 28), batch_size=1)

    assert found.multiply_adds == counter.get_total_flops() // 2 > 1_000_000
    assert found.num_parameters == sum(parameter.numel() for parameter in module.parameters())


def test_attention_is_counted_in_full() -> None:
    """In eval mode torch runs the whole layer as one operator, of which its counter knows nothing."""
    found = describe(Attention(embedding=8, hidden=20), size=(1, 6, 8))

    projections, attention, feed_forward = 6 * 8 * (3 * 8 + 8), 2 * 6 * 6 * 8, 2 * 6 * 8 * 20
    assert found.multiply_adds == projections + attention + feed_forward


def test_torch_runs_layers_as_before_afterwards() -> None:
    torch.backends.mha.set_fastpath_enabled(True)

    describe(Attention(embedding=8, hidden=20), size=(1, 6, 8))

    assert torch.backends.mha.get_fastpath_enabled()


def test_the_count_is_of_one_sample_whatever_the_batch() -> None:
    assert describe(small_net(), batch_size=7).multiply_adds == describe(small_net(), batch_size=1).multiply_adds


def test_shared_weights_are_counted_once() -> None:
    linear = nn.Linear(4, 4)

    found = describe(nn.Sequential(nn.Flatten(), linear, nn.ReLU(), linear), size=(1, 2, 2))

    assert (found.num_parameters, found.multiply_adds) == (20, 32)


# Bytes on disk.


def test_the_weights_have_the_bytes_of_their_file(tmp_path: Path) -> None:
    module = small_net()
    save_file(module.state_dict(), tmp_path / "weights.safetensors")

    assert describe(module).weights_bytes == (tmp_path / "weights.safetensors").stat().st_size


def test_weights_in_another_type_and_memory_order_have_their_own_bytes() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).to(torch.bfloat16)
    layers.to(memory_format=torch.channels_last)

    found = describe_model(layers, Inputs(positional=(torch.randn(1, 3, 8, 8, dtype=torch.bfloat16),)), batch_size=1)

    assert 0 < found.weights_bytes - 2 * (4 * 27 + 4) < 300, "two bytes a number, and a header"


# Time.


@pytest.mark.parametrize(("batch_size", "expected"), [(1, [1]), (3, [1, 3])])
def test_one_image_and_one_batch_are_timed(batch_size: int, expected: list[int]) -> None:
    found = describe(small_net(), batch_size=batch_size)

    assert [latency.batch_size for latency in found.latencies] == expected
    assert all(0 < latency.milliseconds < 10_000 for latency in found.latencies)
    assert found.machine == "CPU, threads: 1"


def test_a_bigger_batch_takes_longer() -> None:
    module = build_model(ModelOptions(model="softlab:grey_cnn"))

    one, many = describe(module, size=(1, 28, 28), batch_size=64).latencies

    assert many.milliseconds > one.milliseconds


@pytest.mark.gpu
def test_a_gpu_is_named() -> None:
    found = describe_model(
        small_net().cuda(), Inputs(positional=(torch.randn(1, 3, 8, 8, device="cuda"),)), batch_size=2
    )

    assert found.machine == torch.cuda.get_device_name()
    assert found.multiply_adds == describe(small_net()).multiply_adds


def test_the_model_is_measured_in_eval_mode_and_not_changed() -> None:
    module = small_net().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    describe(module)

    assert not module.training
    assert all(tensor.equal(before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


# What is refused.


def test_inputs_that_the_model_cannot_take_are_refused() -> None:
    with pytest.raises(ModelError, match=r"can't run on inputs of shape \[1, 1, 8, 8\]"):
        describe(small_net(), size=(1, 8, 8))


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"batch_size = 0: expected 1 or more\. Choose another\."):
        describe(small_net(), batch_size=0)
