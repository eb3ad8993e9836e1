"""Prunes a student while it learns: as the run goes on, masks hold more and more of its smallest weights at zero.

The masks are those of `torch.nn.utils.prune`: a pruned layer has a parameter `weight_orig` and a buffer `weight_mask`
in place of its `weight`, which is their product, computed anew whenever the layer is called.
"""

# Shape letters: N weights of the layers that are ranked together, C channels.

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from softlab.errors import InvalidOption, ModelError
from softlab.models.layer_patterns import check_pattern
from softlab.student.prunable_layers import WEIGHT, PrunableLayer, output_axis, prunable_layers

Scope = Literal["layer", "global"]
Structure = Literal["unstructured", "channels"]

MASK, ORIGINAL = f"{WEIGHT}_mask", f"{WEIGHT}_orig"


@dataclass(frozen=True, kw_only=True, slots=True)
class PruneOptions:
    """How much of a student is pruned, when, and where."""

    amount: float
    """Share of the weights that are zero in the end, of the layers that are pruned."""

    begin: float = 0.0
    """Share of the run after which the first weights go."""

    end: float = 0.75
    """Share of the run after which no more go; in the rest of it those that are left learn to do without."""

    every_steps: int = 100
    """Steps from one pruning to the next."""

    scope: Scope = "layer"
    """What a weight is compared with. layer: each layer loses the same share; global: the smallest of all go."""

    structure: Structure = "unstructured"
    """unstructured: single weights; channels: all weights of an output channel together, but not its bias."""

    exclude: tuple[str, ...] = ()
    """Layers that stay whole, with all that is in them; {i} in a name is any number: blocks.{i}.attn."""

    keep_last: bool = True
    """Leave the last convolution or linear layer whole, which in most models gives the logits."""

    def __post_init__(self) -> None:
        _check(0 < self.amount < 1, "amount", self.amount, "a number between 0 and 1, such as 0.8")
        _check(0 <= self.begin <= 1, "begin", self.begin, "0 to 1")
        _check(self.begin <= self.end <= 1, "end", self.end, f"{self.begin} (`begin`) to 1")
        _check(self.every_steps >= 1, "every_steps", self.every_steps, "1 or more")
        _check(self.scope in get_args(Scope), "scope", self.scope, "layer or global")
        _check(self.structure in get_args(Structure), "structure", self.structure, "unstructured or channels")
        _check(
            self.scope == "layer" or self.structure == "unstructured",
            "scope",
            self.scope,
            "layer with structure = channels, for the norms of channels of different sizes can't be compared",
        )
        for pattern in self.exclude:
            check_pattern(pattern, option="exclude")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sparsity:
    """Which share of the weights is zero."""

    layers: dict[str, float]
    """By layer, of those that are pruned."""

    overall: float
    """Of the weights of all these layers together."""


def scheduled_share(step: int, *, begin_step: int, end_step: int, amount: float) -> float:
    """The share of weights that is to be zero after so many steps.

    amount (1 - (1 - (t - t_begin) / (t_end - t_begin))^3), 0 before and `amount` after: Zhu, Gupta (2017), equation 1,
    from an initial sparsity of 0.
    """
    if step >= end_step:
        return amount
    if step <= begin_step:
        return 0.0
    return amount * (1 - (1 - (step - begin_step) / (end_step - begin_step)) ** 3)


class Pruner:
    """Masks a student's smallest weights on schedule.

    All of its state are the masks, which the student's `state_dict` holds: a run that loads one goes on as if it had
    never stopped. What is masked stays so. Layers whose weight is read without calling them can't be pruned;
    `nn.MultiheadAttention` does so with its `out_proj`, which is left out.
    """

    def __init__(self, module: nn.Module, options: PruneOptions, *, num_steps: int) -> None:
        """Raises ModelError for a student with nothing to prune, or with a layer that can't be, and for an excluded
        layer that it doesn't have."""
        self._module, self._options, self._num_steps = module, options, num_steps
        self._layers = prunable_layers(module, exclude=options.exclude, keep_last=options.keep_last)
        self._begin_step, self._end_step = round(options.begin * num_steps), round(options.end * num_steps)
        self._uncalled: dict[str, Tensor] = {}

    def prepare(self) -> None:
        """Gives each layer a mask of ones; call it before the optimizer is made and before a state is loaded."""
        for name, layer in self._layers.items():
            if not prune.is_pruned(layer):
                with torch.no_grad():  # the product has no graph yet, so the student can still be copied
                    prune.identity(layer, WEIGHT)  # type: ignore[no-untyped-call]
                self._uncalled[name] = getattr(layer, WEIGHT)

    def step(self, progress: float) -> None:
        """Masks more weights if it is time to; call it after each step of training.

        `progress` is the share of the run's steps that are done, 1 after the last. Raises ModelError for a layer whose
        mask is without effect, as the student doesn't call it.
        """
        assert 0 <= progress <= 1, progress
        self._check_called()
        step = round(progress * self._num_steps)
        if not self._is_due(step):
            return
        share = scheduled_share(step, begin_step=self._begin_step, end_step=self._end_step, amount=self._options.amount)
        for group in self._groups():
            if self._options.structure == "channels":
                _mask_channels(*group, share=share)
            else:
                _mask_weights(group, share=share)

    def finish(self) -> None:
        """Sets the masked weights to zero for good and takes the masks away; all names are again those of the model."""
        for layer in self._layers.values():
            if prune.is_pruned(layer):
                prune.remove(layer, WEIGHT)  # type: ignore[no-untyped-call]

    def sparsity(self) -> Sparsity:
        """As it is now: before `prepare` and after `finish` of the weights themselves."""
        kept = {name: getattr(layer, MASK, layer.weight) for name, layer in self._layers.items()}
        zeros = {name: int((tensor == 0).sum()) for name, tensor in kept.items()}
        return Sparsity(
            layers={name: zeros[name] / tensor.numel() for name, tensor in kept.items()},
            overall=sum(zeros.values()) / sum(tensor.numel() for tensor in kept.values()),
        )

    def _is_due(self, step: int) -> bool:
        is_on_the_way = self._begin_step < step < self._end_step
        return step == self._end_step or (is_on_the_way and (step - self._begin_step) % self._options.every_steps == 0)

    def _groups(self) -> list[list[PrunableLayer]]:
        """Layers whose weights are ranked together."""
        layers = list(self._layers.values())
        return [layers] if self._options.scope == "global" else [[layer] for layer in layers]

    def _check_called(self) -> None:
        """A forward replaces the weight of each layer that it calls: one that is still as prepared wasn't called."""
        uncalled = [name for name, weight in self._uncalled.items() if getattr(self._layers[name], WEIGHT) is weight]
        if 0 < len(uncalled) < len(self._uncalled):
            raise ModelError(
                f"layer {uncalled[0]}: the student doesn't call it, so that a mask would have no effect and its weight "
                f"would not learn (found in {len(uncalled)} of {len(self._uncalled)} layers). Add it to `exclude`."
            )
        if not uncalled:
            self._uncalled.clear()


def exported_state(module: nn.Module) -> dict[str, Tensor]:
    """The `state_dict` that a student with masks would have after `Pruner.finish`; it goes on as it is."""
    state: dict[str, Tensor] = module.state_dict()
    for name in [name for name in state if name.endswith(MASK) and _sibling(name, ORIGINAL) in state]:
        state[_sibling(name, WEIGHT)] = state.pop(name) * state.pop(_sibling(name, ORIGINAL))
    return state


def _mask_weights(layers: Sequence[PrunableLayer], *, share: float) -> None:
    """Masks the smallest of the layers' weights until their share is reached."""
    masks = [layer.get_buffer(MASK) for layer in layers]
    mask_N = torch.cat([mask.flatten() for mask in masks])
    weights_N = torch.cat([layer.get_parameter(ORIGINAL).detach().flatten() for layer in layers])
    are_left_N = mask_N != 0
    if num_more := _num_more(are_left_N, share=share):
        _mask_more(prune.L1Unstructured(amount=num_more), mask_N, weights_N, are_left_N)
        for mask, part in zip(masks, torch.split(mask_N, [mask.numel() for mask in masks]), strict=True):
            mask.copy_(part.view_as(mask))


def _mask_channels(layer: PrunableLayer, *, share: float) -> None:
    """Masks the output channels with the smallest L1 norms (Li, Kadav, Durdanovic, Samet, Graf, 2017, section 3.1)."""
    mask = layer.get_buffer(MASK).movedim(output_axis(layer), 0)
    weights = layer.get_parameter(ORIGINAL).detach().movedim(output_axis(layer), 0)
    are_left_C = mask.flatten(start_dim=1).any(dim=1)
    if num_more := _num_more(are_left_C, share=share):
        _mask_more(prune.LnStructured(amount=num_more, n=1, dim=0), mask, weights, are_left_C)


def _mask_more(method: prune.BasePruningMethod, mask: Tensor, weights: Tensor, are_left: Tensor) -> None:
    """Masks, in place, what the method chooses among those that are left.

    Not by `prune.global_unstructured` and its kin, which keep every mask they ever made: 9 MB a call for 2 M weights.
    """
    more: Tensor = method.compute_mask(weights[are_left], default_mask=mask[are_left])  # type: ignore[no-untyped-call]
    mask[are_left] = more


def _num_more(are_left: Tensor, *, share: float) -> int:
    """How many more are to go; one always stays."""
    num_masked = len(are_left) - int(are_left.sum())
    return max(min(round(share * len(are_left)), len(are_left) - 1) - num_masked, 0)


def _sibling(name: str, other: str) -> str:
    return name.removesuffix(MASK) + other


def _check(is_right: bool, name: str, found: object, expected: str) -> None:
    if not is_right:
        raise InvalidOption(f"{name} = {found}: expected {expected}.")
