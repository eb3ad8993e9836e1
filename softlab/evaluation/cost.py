"""What a model costs: parameters, arithmetic, bytes on disk, time for one batch."""

# Shape letters: C channels, H height, W width.

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from softlab.errors import InvalidOption
from softlab.modalities.inputs import Inputs
from softlab.models.device import Autocast
from softlab.models.forward import outputs_of

WARM_UP_PASSES = 2
MIN_PASSES, MAX_PASSES = 3, 50
MAX_SECONDS = 0.5
"""Of all passes that are timed, unless the fewest take longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """One size of batch."""

    batch_size: int
    milliseconds: float
    """Median of repeated forward passes of the whole batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCost:
    """What a model costs, whatever it is good for."""

    num_parameters: int
    multiply_adds: int
    """Of one sample. Matrix products, convolutions and attention are counted; additions, activations, normalisation,
    recurrent layers and operators of other packages are not."""

    weights_bytes: int
    """Of the .safetensors file with all its parameters and buffers."""

    machine: str
    """Where the latencies were measured."""

    latencies: tuple[Latency, ...]
    """For a batch of one, and for one of the asked size."""


def describe_model(
    module: nn.Module, example: Inputs, *, batch_size: int = 256, autocast: Autocast = "none"
) -> ModelCost:
    """Measured on the example's device, where the module must be too; the module is left in eval mode.

    Raises ModelError for a model that can't run on such an input.
    """
    if batch_size < 1:
        raise InvalidOption(f"batch_size = {batch_size}: expected 1 or more. Choose another.")
    module, device = module.eval(), next(example.tensors()).device

    def forward(num_samples: int) -> Callable[[], object]:
        inputs = _repeated(example, num_samples)
        return lambda: outputs_of(module, inputs, device=device, autocast=autocast)

    return ModelCost(
        num_parameters=sum(parameter.numel() for parameter in module.parameters()),
        multiply_adds=_count_multiply_adds(forward(1)),
        weights_bytes=_weights_bytes(module),
        machine=_machine(device),
        latencies=tuple(
            Latency(batch_size=size, milliseconds=_median_ms(forward(size), device)) for size in sorted({1, batch_size})
        ),
    )


def _repeated(example: Inputs, num_samples: int) -> Inputs:
    """So many samples that are all the one of the example."""
    return Inputs(
        positional=tuple(torch.cat([tensor] * num_samples) for tensor in example.positional),
        named={name: torch.cat([tensor] * num_samples) for name, tensor in example.named.items()},
    )


def _count_multiply_adds(forward: Callable[[], object]) -> int:
    """Half of what torch's counter calls floating-point operations, as it counts each multiply-add as two."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _nothing_fused(), counter:
        forward()
    operations: int = counter.get_total_flops()
    return operations // 2


@contextmanager
def _nothing_fused() -> Iterator[None]:
    """The counter knows only operators of which there is one on every device: of ViT-B/16 it would miss a third."""
    is_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_enabled)


def _weights_bytes(module: nn.Module) -> int:
    # Cloned, because safetensors refuses tied weights, which share memory.
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    return len(save({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()}))


@torch.inference_mode()
def _median_ms(forward: Callable[[], object], device: torch.device) -> float:
    for _ in range(WARM_UP_PASSES):
        forward()
    seconds: list[float] = []
    while len(seconds) < MIN_PASSES or (len(seconds) < MAX_PASSES and sum(seconds) < MAX_SECONDS):
        _wait_for(device)
        start = time.perf_counter()
        forward()
        _wait_for(device)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds)


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, threads: {torch.get_num_threads()}" if device.type == "cpu" else device.type
