"""Where a model runs, and in which precision."""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import nn

from softlab.errors import InvalidOption

Autocast = Literal["none", "bfloat16", "float16"]


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU. Raises InvalidOption for a device that isn't there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidOption(f"device {name!r}: {reason}. Choose --device auto, cuda, cuda:1, mps or cpu.") from error
    return device


def autocast_on(device: torch.device, autocast: Autocast) -> AbstractContextManager[object]:
    """The forward pass in a shorter dtype where torch deems that safe; `none` leaves every layer as it is."""
    dtype = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[autocast]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def place(model: nn.Module, device: torch.device, *, channels_last: bool) -> nn.Module:
    """The model on a device, its convolution weights in the memory order that the inputs will have."""
    model = model.to(device)
    if channels_last:
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model
