"""Where a model runs, and in which precision."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from softlab.errors import InvalidOption, check_option
from softlab.ranks import local_rank, num_ranks, srun_task

Autocast = Literal["none", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceOptions:
    """Where models run, in which precision, and what feeds them."""

    name: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""

    autocast: Autocast = "none"
    """Shorter dtype of the forward pass; losses stay float32."""

    channels_last: bool = False
    """Run convolutions in channels-last memory order, which many GPUs and CPUs do faster."""

    compile: bool = False
    """Compile models with torch.compile first."""

    checkpoint_activations: bool = False
    """In training: compute the activations of a model's layers a second time in the backward pass, in place of keeping
    them. Takes less memory and about a third more time; for most models of `hf:`."""

    workers: int | None = None
    """Processes that decode samples; default: 0 to 8.

    0 beside a model on the CPU, else up to 8. In training so many decode for it, and so many for validation: both stay
    until the run's end, with up to 1 GiB of decoded samples each."""

    def __post_init__(self) -> None:
        check_option(self.workers is None or self.workers >= 0, "device.workers", self.workers, "0 or more")


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU; of several processes on a machine each has a GPU of its own.

    Raises InvalidOption for a device that isn't there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if name == "cuda" and num_ranks() > 1:
        name = f"cuda:{local_rank()}"
    elif name == "cuda" and srun_task() is not None:  # Slurm may let each task see its own GPU alone
        name = f"cuda:{local_rank() % max(torch.cuda.device_count(), 1)}"
    try:
        device = torch.empty(0, device=name).device  # with its number, as tensors name it
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidOption(
            f"device {name!r}: {reason}. Choose `device.name` among auto, cuda, cuda:1, mps and cpu."
        ) from error
    return device


def count_devices(wanted: int | None, *, device: str) -> int:
    """How many processes are to have a device of their own: as many as wanted, for None as many as there are GPUs.

    Raises InvalidOption where there are fewer GPUs; the CPU can be shared by any number.
    """
    if wanted == 1 or (wanted is not None and device == "cpu"):
        return wanted
    if device not in ("auto", "cuda"):
        raise InvalidOption(
            f"devices = {wanted or 'all'} with device = {device}: each process takes a GPU of its own. Leave "
            f"`device.name` out, or `dump.devices`."
        )
    found = torch.cuda.device_count()
    if (wanted is not None and wanted > found) or not found:
        next_step = "Say `dump.devices = all` for those that there are" if found else "Leave `dump.devices` out"
        raise InvalidOption(
            f"devices = {wanted or 'all'}: found {found} GPU{'' if found == 1 else 's'}, expected {wanted or 1} or "
            f"more. {next_step}."
        )
    return wanted or found


def autocast_on(device: torch.device, autocast: Autocast) -> AbstractContextManager[object]:
    """The forward pass in a shorter dtype where torch deems that safe; `none` leaves every layer as it is."""
    dtype = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[autocast]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def floating_dtype(module: nn.Module) -> torch.dtype:
    """Of its first floating-point parameter; float32 where it has none."""
    return next((each.dtype for each in module.parameters() if each.is_floating_point()), torch.float32)


def place(model: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """The model on a device, its convolution weights in the memory order that the inputs will have."""
    model = model.to(device)
    if channels_last:
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model
