"""Takes features from inside a model: the outputs of named layers, pooled where they are computed."""

# Shape letters: B rows in a batch, C channels, H height, W width, L positions, D features.

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, cast, get_args

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from softlab.errors import InvalidOption, ModelError, suggest

Pooling = Literal["none", "mean", "cls", "flatten"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tap:
    """One layer to take features from."""

    layer: str
    """name in the model's `named_modules`, e.g. layer4.1"""

    pooling: Pooling = "none"
    """none: as it is; mean: over all positions ([B, C, H, W] or [B, L, D]); cls: the first of [B, L, D]; flatten"""

    def __post_init__(self) -> None:
        if not self.layer:
            raise InvalidOption("feature: no layer is named. Write LAYER or LAYER:POOLING, e.g. layer4.1:mean.")
        if self.pooling not in get_args(Pooling):
            raise InvalidOption(
                f"feature {self.layer}: unknown pooling `{self.pooling}`. Use one of {', '.join(get_args(Pooling))}."
            )


def parse_tap(text: str) -> Tap:
    """The tap written as `layer4.1` or `layer4.1:mean`."""
    layer, colon, pooling = text.partition(":")
    return Tap(layer=layer, pooling=cast(Pooling, pooling)) if colon else Tap(layer=layer)


class FeatureTaps:
    """Collects features during the forwards that run inside its `with` block.

    Four-dimensional outputs are read as channels first. A layer that runs several times in one forward gives its
    last output, and one whose output is a tuple gives the first tensor in it.
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

    def __enter__(self) -> Self:
        self._handles.append(self._model.register_forward_pre_hook(self._forget))
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
        """The features of the last forward by name, on the model's device; they are then forgotten here."""
        for name, tap, _ in self._tapped:
            if name not in self._features:
                raise ModelError(
                    f"layer `{tap.layer}` gave nothing in the last forward. Tap a layer that runs in each."
                )
        features = {name: self._features[name] for name, _, _ in self._tapped}
        self._features.clear()
        return features

    def _keeper(self, name: str, tap: Tap) -> Callable[[nn.Module, object, object], None]:
        def keep(layer: nn.Module, inputs: object, output: object) -> None:
            self._features[name] = _pool(_first_tensor(output, tap), tap)

        return keep

    def _forget(self, model: nn.Module, inputs: object) -> None:
        self._features.clear()


def _first_tensor(output: object, tap: Tap) -> Tensor:
    parts = output if isinstance(output, tuple | list) else [output]
    for part in parts:
        if isinstance(part, Tensor):
            return part
    raise ModelError(f"layer `{tap.layer}` gives a {type(output).__name__}, not a tensor. Tap a layer inside it.")


def _pool(output: Tensor, tap: Tap) -> Tensor:
    # What shares memory with the output is cloned: a later layer may work in place on it (ResNet's `+=` and ReLU).
    match tap.pooling:
        case "none":
            return output.clone()
        case "flatten":
            return output.reshape(len(output), -1).clone()
        case "cls" if output.ndim == 3:
            return output[:, 0].clone()
        case "mean" if output.ndim == 3:
            return output.mean(dim=1)
        case "mean" if output.ndim > 3:
            return output.mean(dim=tuple(range(2, output.ndim)))
    fitting = ["none", "flatten", *(["mean"] if output.ndim > 3 else [])]
    raise ModelError(
        f"layer `{tap.layer}` gives {list(output.shape)}, which `{tap.pooling}` can't pool. "
        f"Use {' or '.join(f'`{tap.layer}:{pooling}`' for pooling in fitting)}."
    )
