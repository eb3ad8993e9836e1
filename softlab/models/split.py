"""A model of transformers that is larger than one GPU: its layers lie on all GPUs that this process sees.

Its weights are read into the memory of the machine first. Inputs, and all that isn't in one of its equal layers, such
as embeddings and the output layer, are on the first GPU: so are its outputs. Hidden states move with the layers.
"""

from bisect import bisect
from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.hooks import RemovableHandle

from softlab.amounts import format_bytes, format_count
from softlab.errors import InvalidOption
from softlab.ranks import num_local_ranks

MARGIN = 0.85
"""Of a GPU's free memory that weights may take: the rest is for what is computed."""


def split_over_gpus(model: nn.Module) -> list[RemovableHandle]:
    """Move the model there; what is returned removes what moves hidden states. Raises InvalidOption where there are no
    several GPUs or other processes of the run have them, where they are too small, and as `choose_places`."""
    count = torch.cuda.device_count()
    if count < 2 or num_local_ranks() > 1:
        others = f" and {num_local_ranks()} processes that share them" if num_local_ranks() > 1 else ""
        raise InvalidOption(
            f"dump.split: found {format_count(count, 'GPU')}{others}, expected several for one process. Leave "
            f"`dump.split` out, or say `dump.devices = 1`."
        )
    devices = [torch.device("cuda", number) for number in range(count)]
    free = {each: int(MARGIN * torch.cuda.mem_get_info(each)[0]) + _bytes_on(model, each) for each in devices}
    return spread(model, choose_places(model, free=free), first=devices[0])


def choose_places(model: nn.Module, *, free: Mapping[torch.device, int]) -> dict[str, torch.device]:
    """Where each of its equal layers goes, by name, in equal shares of what each device has `free` in bytes; what isn't
    in them goes to the first. Raises InvalidOption where that is too little, and for a model that doesn't tell them."""
    layers = dict(_layers(model))
    if not layers:
        raise InvalidOption(
            f"dump.split: {type(model).__name__} doesn't tell what its equal layers are, as models of `hf:` do. Leave "
            f"`dump.split` out."
        )
    sizes = {name: _bytes_of(layer) for name, layer in layers.items()}
    whole, in_layers = _bytes_of(model), sum(sizes.values())
    room = {each: amount - (whole - in_layers) * (number == 0) for number, (each, amount) in enumerate(free.items())}
    places = _shares(sizes, room) if min(room.values()) >= 0 else {}
    taken = {each: sum(sizes[name] for name, place in places.items() if place == each) for each in room}
    if not places or any(taken[each] > room[each] for each in room):
        raise InvalidOption(
            f"dump.split: the weights take {format_bytes(whole)}, and {format_count(len(free), 'GPU')} have "
            f"{format_bytes(sum(free.values()))} for them. Take more GPUs, or weights of fewer bits, as with "
            f"`teacher.arguments.dtype = bfloat16`."
        )
    return places


def spread(model: nn.Module, places: Mapping[str, torch.device], *, first: torch.device) -> list[RemovableHandle]:
    """Move layers to their places, and all else to the first device; each then moves what it is called with."""
    handles, inside = [], set[nn.Module]()
    for name, part in _parts(model, places):
        device = places.get(name, first)
        inside.update(part.to(device).modules())
        handles.append(part.register_forward_pre_hook(_Mover(device), with_kwargs=True))
    for around in set(model.modules()) - inside:
        for own in (*around.parameters(recurse=False), *around.buffers(recurse=False)):
            own.data = own.data.to(first)
    return handles


def _parts(module: nn.Module, layers: Collection[str], *, of: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers, and what lies beside them, by name."""
    for own_name, child in module.named_children():
        name = f"{of}{own_name}"
        if name in layers or not any(layer.startswith(f"{name}.") for layer in layers):
            yield name, child
        else:
            yield from _parts(child, layers, of=f"{name}.")


class _Mover:
    """A hook of a module: all tensors that it is called with move to its device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, Any]:
        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(self._device, non_blocking=True)

        found: tuple[Any, Any] = tree_map_only(Tensor, moved, (given, named))
        return found


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Those of the classes that transformers says aren't to be parted, outermost first."""
    kinds, found = set(getattr(model, "_no_split_modules", None) or ()), ""
    for name, module in model.named_modules():
        if type(module).__name__ in kinds and not (found and name.startswith(f"{found}.")):
            found = name
            yield name, module


def _shares(sizes: Mapping[str, int], room: Mapping[torch.device, int]) -> dict[str, torch.device]:
    """One after another: each device gets the part of all layers that it has of all room."""
    ends, total, behind = list(accumulate(room.values())), sum(sizes.values()), accumulate(sizes.values())
    middles = [(end - size / 2) / total * ends[-1] for size, end in zip(sizes.values(), behind, strict=True)]
    devices = [min(bisect(ends, middle), len(ends) - 1) for middle in middles]
    return {name: list(room)[number] for name, number in zip(sizes, devices, strict=True)}


def _bytes_of(module: nn.Module) -> int:
    """Each weight once, as one may be that of two layers."""
    return sum(each.nbytes for each in {*module.parameters(), *module.buffers()})


def _bytes_on(module: nn.Module, device: torch.device) -> int:
    return sum(each.nbytes for each in {*module.parameters(), *module.buffers()} if each.device == device)
