"""A layer of a student that a stored feature can be compared with, where the user has named none."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softlab.modalities.inputs import Inputs

FEATURE_AXES = (1, 2, 3)
"""Of a vector, of tokens and of a map, without the rows of a batch."""


def find_layer(module: nn.Module, inputs: Inputs, *, feature_shape: Sequence[int]) -> str | None:
    """The last layer before the logits whose output has the feature's positions, or at least its number of axes; None
    if there is none. Good enough to measure what learning the feature costs. The module is left in eval mode."""
    shapes = _shapes_of_layers(module.eval(), inputs)
    *before, _ = shapes or {"": ()}  # the last layer gives the logits
    alike = [name for name in before if len(shapes[name]) == len(feature_shape) and len(feature_shape) in FEATURE_AXES]
    same = [name for name in alike if _positions(shapes[name]) == _positions(feature_shape)]
    if len(feature_shape) == 2:  # unlike maps, tokens of other positions can't be compared
        alike = same
    found = same or alike
    return found[-1] if found else None


def _shapes_of_layers(module: nn.Module, inputs: Inputs) -> dict[str, tuple[int, ...]]:
    """Of one sample's output, in the order of the forward pass; of layers without others in them."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            shapes.pop(name, None)
            shapes[name] = tuple(output.shape[1:])

    leaves = {name: layer for name, layer in module.named_modules() if name and not list(layer.children())}
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, output, name=name: note(name, output))
        for name, layer in leaves.items()
    ]
    try:
        with torch.inference_mode():
            module(*inputs.positional, **inputs.named)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _positions(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:] if len(shape) == 3 else shape[:-1])
