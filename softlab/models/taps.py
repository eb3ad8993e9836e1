"""Takes features from inside a model: the outputs of named layers, pooled where they are computed."""

# Shape letters: B rows in a batch, C channels, H height, W width, L positions, D features.

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, cast, get_args

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from softlab.errors import DoubtfulLayout, InvalidOption, ModelError, suggest

Pooling = Literal["none", "mean", "cls", "flatten"]
Layout = Literal["channels_first", "channels_last"]

MASK = "attention_mask"
"""The named input that says which positions of a sample are its own, and which fill it up."""

WIDER = 4
"""So many times as wide as the two axes before it, the last axis of four looks like channels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tap:
    """One layer to take features from."""

    layer: str
    """name in the model's `named_modules`, e.g. layer4.1"""

    pooling: Pooling = "none"
    """none: as it is; mean: over all positions ([B, C, H, W] or [B, L, D]) but padding; cls: the first of [B, L, D];
    flatten"""

    layout: Layout | None = None
    """Which axis of a four-dimensional output is the channels; None: as the model says it, else channels_first"""

    def __post_init__(self) -> None:
        if not self.layer:
            raise InvalidOption("feature: no layer is named. Write LAYER or LAYER:POOLING, e.g. layer4.1:mean.")
        if self.pooling not in get_args(Pooling):
            raise InvalidOption(
                f"feature {self.layer}: unknown pooling `{self.pooling}`. Use one of {', '.join(get_args(Pooling))}. "
                f"Where the layer gives [B, H, W, C], say :channels_last behind it."
            )

    def __str__(self) -> str:
        """As `parse_tap` reads it."""
        return ":".join([self.layer, self.pooling, *([self.layout] if self.layout else [])])


def parse_tap(text: str) -> Tap:
    """The tap written as `layer4.1`, `layer4.1:mean`, `layers.3:channels_last` or `layers.3:mean:channels_last`."""
    layer, *others = text.split(":")
    layout = cast(Layout, others.pop()) if others and others[-1] in get_args(Layout) else None
    pooling = cast(Pooling, ":".join(others)) if others else "none"
    return Tap(layer=layer, pooling=pooling, layout=layout)


class FeatureTaps:
    """Collects features during the forwards that run inside its `with` block.

    Four-dimensional features are [B, C, H, W]. An output with channels last is turned round where the tap or the model
    says so (timm's `output_fmt`), or its layer can't give another (a linear one). All others are read as channels
    first, and one that looks different is told by a DoubtfulLayout warning. A layer that runs several times in one
    forward gives its last output, and one whose output is a tuple gives the first tensor in it.
    """

    def __init__(self, model: nn.Module, taps: Mapping[str, Tap]) -> None:
        layers = {name: layer for name, layer in model.named_modules(remove_duplicate=False) if name}
        for tap in taps.values():
            if tap.layer not in layers:
                raise ModelError(f"{type(model).__name__} has no layer {tap.layer!r}. {suggest(tap.layer, layers)}")
        self._model = model
        self._tapped = [(name, tap, layers[tap.layer]) for name, tap in taps.items()]
        self._handles: list[RemovableHandle] = []
        self._features: dict[str, Tensor] = {}
        self._mask_BL: Tensor | None = None
        self._doubts: dict[str, str | None] = {}

    def __enter__(self) -> Self:
        if self._tapped:  # a frozen script takes no hooks
            self._handles.append(self._model.register_forward_pre_hook(self._begin, with_kwargs=True))
        for name, tap, layer in self._tapped:
            self._handles.append(layer.register_forward_hook(self._keeper(name, tap)))
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._features.clear()

    def collect(self) -> dict[str, Tensor]:
        """The features of the last forward by name, on the model's device; they are then forgotten here. Warns once a
        layer with DoubtfulLayout."""
        for name, tap, _ in self._tapped:
            if name not in self._features:
                raise ModelError(
                    f"layer `{tap.layer}` gave nothing in the last forward. Tap a layer that runs in each."
                )
        features = {name: self._features[name] for name, _, _ in self._tapped}
        self._features.clear()
        for name, doubt in self._doubts.items():
            if doubt is not None:
                warnings.warn(doubt, DoubtfulLayout, stacklevel=2)
                self._doubts[name] = None
        return features

    def _keeper(self, name: str, tap: Tap) -> Callable[[nn.Module, object, object], None]:
        layout = tap.layout or _layout_of(self._model, tap.layer)

        def keep(layer: nn.Module, inputs: object, output: object) -> None:
            found = _first_tensor(output, tap)
            if found.ndim == 4 and layout == "channels_last":
                found = found.movedim(-1, 1)
            elif found.ndim == 4 and layout is None and tap.pooling != "flatten" and _looks_channels_last(found):
                self._doubts.setdefault(name, _doubt(found, tap))
            self._features[name] = _pool(found, tap, self._mask_BL)

        return keep

    def _begin(self, model: nn.Module, inputs: object, named: Mapping[str, object]) -> None:
        self._features.clear()
        mask = named.get(MASK)
        self._mask_BL = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _first_tensor(output: object, tap: Tap) -> Tensor:
    parts = output if isinstance(output, tuple | list) else [output]
    for part in parts:
        if isinstance(part, Tensor):
            return part
    raise ModelError(f"layer `{tap.layer}` gives a {type(output).__name__}, not a tensor. Tap a layer inside it.")


def _layout_of(model: nn.Module, name: str) -> Layout | None:
    """What is sure of a layer's four-dimensional output: its kind knows one layout alone, or the nearest module around
    it that says something does so in `output_fmt`, as timm's do."""
    layer = model.get_submodule(name)
    if isinstance(
        layer, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm | nn.AdaptiveAvgPool2d | nn.AvgPool2d | nn.MaxPool2d
    ):
        return "channels_first"
    if type(layer) in (nn.Linear, nn.LayerNorm):  # libraries derive a LayerNorm of channels first from it
        return "channels_last"
    parts = name.split(".")
    around = (model.get_submodule(".".join(parts[:count])) for count in range(len(parts), -1, -1))
    told = next((each.output_fmt for each in around if hasattr(each, "output_fmt")), None)
    layouts: dict[str, Layout] = {"NHWC": "channels_last", "NCHW": "channels_first"}
    return layouts.get(str(getattr(told, "value", told)))


def _looks_channels_last(output: Tensor) -> bool:
    _, height, width, channels = output.shape
    return width != channels and (1 < height == width or channels > WIDER * max(height, width))


def _doubt(output: Tensor, tap: Tap) -> str:
    layer = f"{tap.layer}:{tap.pooling}"
    return (
        f"layer `{tap.layer}` gives {list(output.shape)}, which is read as [B, C, H, W]: as {output.shape[1]:,} "
        f"channels. If they are its last axis, say `{layer}:channels_last`; if not, `{layer}:channels_first`."
    )


def _mean_over_own(output_BLD: Tensor, mask_BL: Tensor, tap: Tap) -> Tensor:
    """Over the positions of each sample that don't fill it up."""
    if mask_BL.shape != output_BLD.shape[:2]:
        raise ModelError(
            f"layer `{tap.layer}` gives {list(output_BLD.shape)} where the {MASK} is {list(mask_BL.shape)}, so that "
            f"padding can't be left out of a mean. Use `{tap.layer}:cls`, or a layer with a state for each token."
        )
    is_own_BL1 = mask_BL.bool().unsqueeze(2).to(output_BLD.device)
    return output_BLD.where(is_own_BL1, 0).sum(dim=1) / is_own_BL1.sum(dim=1).to(output_BLD.dtype)


def _pool(output: Tensor, tap: Tap, mask_BL: Tensor | None) -> Tensor:
    # What shares memory with the output is cloned: a later layer may work in place on it (ResNet's `+=` and ReLU).
    match tap.pooling:
        case "none":
            return output.clone()
        case "flatten":
            return output.reshape(len(output), -1).clone()
        case "cls" if output.ndim == 3:
            return output[:, 0].clone()
        case "mean" if output.ndim == 3 and mask_BL is not None:
            return _mean_over_own(output, mask_BL, tap)
        case "mean" if output.ndim == 3:
            return output.mean(dim=1)
        case "mean" if output.ndim > 3:
            return output.mean(dim=tuple(range(2, output.ndim)))
    fitting = ["none", "flatten", *(["mean"] if output.ndim > 3 else [])]
    raise ModelError(
        f"layer `{tap.layer}` gives {list(output.shape)}, which `{tap.pooling}` can't pool. "
        f"Use {' or '.join(f'`{tap.layer}:{pooling}`' for pooling in fitting)}."
    )
