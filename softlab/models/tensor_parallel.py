"""One model in several processes: each holds a part of every layer, by the plan that transformers has for the model.

Processes of torchrun form groups of consecutive ranks. The first one of each group leads: whatever it calls the model
with, the others are sent, and run it with the same. So only the leader does the work of a process of its own.
"""

import atexit
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.utils._pytree import tree_map_only

from softlab.errors import InvalidOption
from softlab.models.weights import tensors_fingerprint
from softlab.ranks import is_launched, num_ranks, rank, shared_store

PATIENCE = timedelta(days=30)
"""A group may wait as long for the others, once its part of a dump is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """What a leader calls the model with."""

    given: tuple[Any, ...]
    named: dict[str, Any]
    autocast: torch.dtype | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _End:
    is_well: bool


def is_leader(size: int) -> bool:
    """Whether this process is the first one of its group, or alone."""
    return rank() % size == 0


def join_group(size: int, *, device: torch.device) -> None:
    """Meet the other processes of this one's group, which torch then takes for all that there are; a second time
    nothing happens. Raises InvalidOption where the processes of a run make no whole groups."""
    if not is_launched() or num_ranks() % size:
        raise InvalidOption(
            f"dump.tensor_parallel = {size}: found {num_ranks()} processes, expected a multiple of {size}. Say "
            f"`dump.devices = {size}`, or start so many with torchrun."
        )
    if distributed.is_initialized():
        return
    store = PrefixStore(f"softlab/tensor-parallel-{rank() // size}", shared_store())
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=rank() % size,
        world_size=size,
        timeout=PATIENCE,
        device_id=device if on_gpu else None,
    )
    atexit.register(distributed.destroy_process_group)


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a weight of which each process of the group may hold a part; all of them call this."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


class _WholeWeights(Mapping[str, Any]):
    """A state of which one weight at a time is put together."""

    def __init__(self, state: Mapping[str, Any]) -> None:
        self._state = state

    def __getitem__(self, name: str) -> Any:
        value = self._state[name]
        return whole_tensor(value) if isinstance(value, Tensor) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def whole_fingerprint(model: nn.Module) -> str:
    """As `weights_fingerprint`, of a model that several processes hold; all of them call this."""
    return tensors_fingerprint(_WholeWeights(model.state_dict()))


@contextmanager
def as_one_teacher(model: nn.Module, size: int, device: torch.device) -> Iterator[bool]:
    """Whether this process leads a group of so many; when it doesn't, its leader's work is done by then. One that
    follows a leader which failed exits without a word, as the leader tells why."""
    if size == 1:
        yield True
        return
    join_group(size, device=device)
    if is_leader(size):
        with leading(model, device=device):
            yield True
    elif follow(model, device=device):
        yield False
    else:
        sys.exit(1)


@contextmanager
def leading(model: nn.Module, *, device: torch.device) -> Iterator[None]:
    """In the leader of a group: its calls of the model are those of the others too, which end with this."""

    def send(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        is_autocast = torch.is_autocast_enabled(device.type)
        given, named = tree_map_only(Tensor, Tensor.cpu, (given, named))
        autocast = torch.get_autocast_dtype(device.type) if is_autocast else None
        _broadcast(_Call(given=given, named=named, autocast=autocast), device=device)

    handle = model.register_forward_pre_hook(send, with_kwargs=True, prepend=True)
    try:
        yield
    except BaseException:
        with suppress(RuntimeError):  # where one of them has failed first
            _broadcast(_End(is_well=False), device=device)
        raise
    else:
        _broadcast(_End(is_well=True), device=device)
    finally:
        handle.remove()


def follow(model: nn.Module, *, device: torch.device) -> bool:
    """In the other processes of a group: run what its leader runs, until it ends; whether it ended well."""
    while isinstance(call := _broadcast(None, device=device), _Call):
        given, named = tree_map_only(Tensor, lambda tensor: tensor.to(device), (call.given, call.named))
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=call.autocast, enabled=call.autocast is not None),
        ):
            model(*given, **named)
    assert isinstance(call, _End), "nothing else is sent"
    return call.is_well


def _broadcast(message: _Call | _End | None, *, device: torch.device) -> _Call | _End | None:
    """The leader's."""
    messages = [message]
    distributed.broadcast_object_list(messages, src=0, device=device)
    return messages[0]
