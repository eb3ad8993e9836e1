"""A causal language model's logits, not computed yet: [B, L, C] of a large vocabulary is never there at once.

The model runs as it is, but for its output layer, whose input is kept. What the model does with that layer's products
is read from its configuration, and compared with what it really does on the first batch.
"""

# Shape letters: B samples in a batch, L tokens of the longest one, D width of the hidden states, C classes, F first
# positions of each sample.

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from softlab.errors import ModelError
from softlab.labels.lazy_logits import LazyLogits, in_autocast_dtype
from softlab.models.forward import LOGITS
from softlab.models.isolation import check_isolation, nothing_random
from softlab.models.tensor_parallel import whole_tensor

HEAD_DTYPES = ("float32", "auto")

CHECKED = 4
"""Positions of each sample of the first batch whose logits are compared."""

TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 5e-3, torch.float32: 1e-4, torch.float64: 1e-10}
"""By which they may differ from the model's own, relative to the largest, by the dtype of its products: as many bits as
that keeps, and sums in another order."""

MOST_FILLED = 1024
"""Tokens that a vocabulary may be filled up with: Qwen 2.5 has 399 of them, phi-2 905."""


class CausalReader:
    """The forward pass of a model of transformers that gives `logits` as LazyLogits [B, L, C]. `give_lazy_logits` makes
    it that of the model, so that no layer gets another name."""

    def __init__(self, model: Any, *, name: str, num_classes: int | None = None, head_dtype: str = "float32") -> None:
        """`num_classes` are the tokenizer's; None for all of the output layer. With `head_dtype` float32 no logit is
        rounded to half precision, with auto the products are in the dtype of the model, or of autocast. Raises
        ValueError for a model without an output layer, and for another vocabulary."""
        layer = model.get_output_embeddings()
        if not isinstance(layer, nn.Linear):
            raise ValueError(
                f"its output layer is {type(layer).__name__}, expected a plain Linear over the vocabulary. Choose a "
                f"causal language model, and leave its output layer out of adapters and quantisation"
            )
        self._layer, self._name, self._head_dtype = layer, name, head_dtype
        self._num_classes = _classes_of(len(layer.weight), num_classes)
        self._scale, self._softcap = _scale_of(model.config), _softcap_of(model.config)
        self._model: nn.Module = model
        self._forward = model.__dict__.get("forward")  # not bound: pickle would take this reader for it
        self._is_checked, self._is_isolated = False, False
        self._wholes: dict[str, Tensor] = {}

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        **named: Any,
    ) -> dict[str, LazyLogits]:
        """Where `position_ids` begin anew in a sequence, so does a sample that sees itself alone. Raises ModelError for
        a model that mixes samples, and one that makes other logits of its output layer than its configuration tells."""
        if position_ids is not None:
            named = {"position_ids": position_ids, **named}
            if not self._is_isolated:  # first, as layers that are tapped are to hold what is given last
                self._is_isolated = check_isolation(self._states, input_ids, position_ids, name=self._name)
        num_first = 0 if self._is_checked else CHECKED
        hidden_BLD, first_BFC, dtype = self._run(
            num_first=num_first, input_ids=input_ids, attention_mask=attention_mask, **named
        )
        logits = LazyLogits(
            hidden=self._in_head_dtype(hidden_BLD),
            weight_CD=self._whole("weight"),
            bias_C=None if self._layer.bias is None else self._whole("bias"),
            scale=self._scale,
            softcap=self._softcap,
            num_classes=self._num_classes,
        )
        if not self._is_checked:
            self._check(logits, first_BFC, tolerance=TOLERANCE[dtype])
            self._is_checked = True
        return {LOGITS: logits}

    def _run(self, *, num_first: int, **inputs: Any) -> tuple[Tensor, Tensor, torch.dtype]:
        """What the output layer is given [B, L, D]; the model's own logits of the first positions [B, F, C], and the
        dtype of that layer's products."""
        kept: list[Tensor] = []
        layer: Any = self._layer
        layer_forward, forward = layer.forward, self._forward or partial(type(self._model).forward, self._model)

        def keep(hidden_BLD: Tensor) -> Tensor:
            products_BFC: Tensor = layer_forward(hidden_BLD[:, :num_first])
            kept.extend((hidden_BLD, products_BFC))
            return products_BFC

        layer.forward = keep
        try:
            outputs = forward(use_cache=False, **inputs)
        finally:
            layer.forward = layer_forward
        hidden_BLD, products_BFC = kept
        return hidden_BLD, outputs.logits, products_BFC.dtype

    def _whole(self, name: str) -> Tensor:
        """Of the output layer; where processes share it, it is put together once."""
        if name not in self._wholes:
            own: Tensor = getattr(self._layer, name)
            found = whole_tensor(own)
            if found is own:  # which training may replace
                return found
            self._wholes[name] = found
        return self._wholes[name]

    def _in_head_dtype(self, hidden_BLD: Tensor) -> Tensor:
        if self._head_dtype == "float32":
            return hidden_BLD.float() if hidden_BLD.dtype in (torch.bfloat16, torch.float16) else hidden_BLD
        return in_autocast_dtype(hidden_BLD)

    def _states(self, ids_BL: Tensor, positions_BL: Tensor) -> Tensor:
        with nothing_random(self._model):
            return self._run(num_first=0, input_ids=ids_BL, position_ids=positions_BL)[0]

    @torch.no_grad()
    def _check(self, logits: LazyLogits, own_BFC: Tensor, *, tolerance: float) -> None:
        """Numbers that aren't finite are the dump's to refuse."""
        first_BFC = replace(logits, hidden=logits.hidden[:, : own_BFC.shape[1]]).whole()
        own_BFC = own_BFC[..., : first_BFC.shape[-1]].to(first_BFC.dtype)
        is_finite_BFC = first_BFC.isfinite() & own_BFC.isfinite()
        largest = max(own_BFC.abs().where(is_finite_BFC, 0).max().item(), torch.finfo(torch.float32).tiny)
        differs = (first_BFC - own_BFC).abs().where(is_finite_BFC, 0).max().item()
        if differs > tolerance * largest:
            raise ModelError(
                f"{self._name}: its logits differ by {differs / largest:.2g} of the largest from what its output layer "
                f"and its configuration give (scale {self._scale:g}, softcap {self._softcap}), expected {tolerance:g} "
                f"at most. Give it as a module of your own that returns its logits, as `package.module:factory`."
            )


def give_lazy_logits(model: Any, *, name: str, num_classes: int | None = None, head_dtype: str = "float32") -> None:
    """From now on the model's forward is a CausalReader. Raises as that."""
    module: nn.Module = model
    module.forward = CausalReader(model, name=name, num_classes=num_classes, head_dtype=head_dtype)


def _classes_of(num_rows: int, num_tokens: int | None) -> int | None:
    """The classes of an output layer, for a tokenizer that can give no other token."""
    if num_tokens is None or num_tokens == num_rows:
        return None
    if not 0 < num_rows - num_tokens <= MOST_FILLED:
        raise ValueError(
            f"the tokenizer has {num_tokens:,} tokens, and the model's output layer {num_rows:,}, which is more than "
            f"filling up (0 to {MOST_FILLED:,}). Name as `input.tokenizer` the one that the model was trained with"
        )
    return num_tokens


def _scale_of(config: Any) -> float:
    """Cohere multiplies its logits by `logit_scale`, Granite divides them by `logits_scaling`."""
    told = config.get_text_config()
    return float(getattr(told, "logit_scale", None) or 1.0) / float(getattr(told, "logits_scaling", None) or 1.0)


def _softcap_of(config: Any) -> float | None:
    """As Gemma 2 has it."""
    found = getattr(config.get_text_config(), "final_logit_softcapping", None)
    return float(found) if found else None
