"""Code for a GPU, run where there is none: tensors of a pretended GPU have a shape and no numbers, a mix of devices is
refused as a real one refuses it, and so is whatever would make this process wait for the GPU's work.

Only forward passes: torch's engine of backward passes asks for a real device.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from softlab.labels import sampled_coding
from softlab.labels.on_device import constant

FAKE_GPU = torch.device("cuda", 0)
INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)
CACHES = (constant, sampled_coding._slots, sampled_coding._order_on)
"""They hold tensors of a device."""


class Waited(AssertionError):
    """A real GPU would have been waited for."""


@contextmanager
def fake_gpu() -> Iterator[torch.device]:
    """Tensors inside are pretended ones, on the CPU too. Raises Waited, and what torch raises for a number or a number
    of rows that only the GPU knows."""
    copies = _Copies()
    for cached in CACHES:
        cached.cache_clear()

    def pin_memory(tensor: Tensor) -> Tensor:
        return copies.pin(tensor)

    with FakeTensorMode(allow_non_fake_inputs=True), patch.object(Tensor, "pin_memory", pin_memory), copies:
        yield FAKE_GPU
    for cached in CACHES:
        cached.cache_clear()


class _Copies(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches copies between the CPU and the GPU."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._pinned: list[Tensor] = []  # kept, so that no later tensor has the identity of one of them

    def pin(self, tensor: Tensor) -> Tensor:
        pinned = tensor.clone()
        self._pinned.append(pinned)
        return pinned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default:
            target = torch.device(kwargs.get("device") or args[0].device)
            self._check(args[0], target, waits=not kwargs.get("non_blocking", False))
        elif func is torch.ops.aten.copy_.default and args[1].ndim:  # `x[0] = 1.0` fills, and copies nothing
            self._check(args[1], args[0].device, waits=not (args[2:] or [kwargs.get("non_blocking")])[0])
        elif func in INDEXING:
            for index in (each for each in args[1] if each is not None):
                self._check(index, args[0].device, waits=True)
        return func(*args, **kwargs)

    def _check(self, source: Tensor, target: torch.device, *, waits: bool) -> None:
        if source.device.type == target.type:
            return
        if waits:
            raise Waited(f"a copy of {list(source.shape)} from {source.device} to {target} waits for the GPU's work")
        if target.type == "cuda" and not any(source is each for each in self._pinned):
            raise Waited(f"a copy of {list(source.shape)} to {target} is from memory that isn't page-locked")
