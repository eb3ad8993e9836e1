"""The layers of a student that can be pruned: convolutions and linear layers whose weight is theirs alone."""

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import prune

from softlab.errors import ModelError
from softlab.models.layer_patterns import fit, suggest_pattern

PrunableLayer = _ConvNd | nn.Linear

WEIGHT = "weight"


def prunable_layers(
    module: nn.Module, *, exclude: Sequence[str] = (), keep_last: bool = True
) -> dict[str, PrunableLayer]:
    """Layers by name, in the module's order, but for those that fit a pattern and, if so asked, the last of all.

    `out_proj` of `nn.MultiheadAttention` is never one of them: its weight is read without calling it, and a mask is
    applied in the call. Raises ModelError for a pattern that fits no layer, for nothing to prune, and for a weight that
    is computed from other parameters or shared with another layer.
    """
    names = [name for name, _ in module.named_modules()]
    for pattern in exclude:
        if not any(fit(pattern, name) for name in names):
            raise ModelError(f"exclude: the student has no layer {pattern}. {suggest_pattern(pattern, names)}")
    layers = list(_candidates(module))
    if keep_last:
        del layers[-1:]
    prunable = {name: layer for name, layer in layers if not any(fit(pattern, name) for pattern in exclude)}
    if not prunable:
        raise ModelError(
            f"{type(module).__name__} has no convolution or linear layer to prune. Prune another student, exclude "
            f"fewer layers, or set keep_last = false."
        )
    for name, layer in prunable.items():
        _check_weight(module, name, layer)
    return prunable


def output_axis(layer: PrunableLayer) -> int:
    """Of the weight: the axis of the output channels."""
    return 1 if isinstance(layer, _ConvNd) and layer.transposed else 0


def _candidates(module: nn.Module) -> Iterator[tuple[str, PrunableLayer]]:
    for name, layer in module.named_modules():
        # torch has the second class for `out_proj` of `nn.MultiheadAttention` alone.
        if isinstance(layer, PrunableLayer) and not isinstance(layer, NonDynamicallyQuantizableLinear):
            yield name, layer


def _check_weight(module: nn.Module, name: str, layer: PrunableLayer) -> None:
    if prune.is_pruned(layer):
        return
    weight = dict(layer.named_parameters(recurse=False)).get(WEIGHT)
    if weight is None:
        raise ModelError(
            f"layer {name}: its weight is computed from other parameters, so it takes no mask. Add it to `exclude`."
        )
    sharing = [other for other, part in module.named_modules() if part is not layer and _owns(part, weight)]
    if sharing:
        raise ModelError(
            f"layer {name}: its weight is also that of {' and '.join(sharing)}, which a mask would not reach. "
            f"Add {name} to `exclude`."
        )


def _owns(part: nn.Module, parameter: nn.Parameter) -> bool:
    return any(each is parameter for each in part.parameters(recurse=False))
