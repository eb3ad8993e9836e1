"""One vector a text from a transformer's states of tokens, as sentence-transformers makes it.

The model's forward gives it as `embedding`, beside what it gave before, and of queries with candidates their scores. No
layer gets another name, so that weights, features and `inherit` stay as they are.
"""

# Shape letters: B texts in a batch, L tokens of the longest one of them, D numbers of a vector.

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from softlab.errors import suggest
from softlab.labels.candidates import score_candidates

EMBEDDING = "embedding"
"""What the vector is called among the model's outputs."""

Pooling = Literal["mean", "cls", "max"]

POOLINGS: tuple[str, ...] = get_args(Pooling)

MODULES = "modules.json"
"""Where sentence-transformers lists what a text passes through, each with the folder of its configuration."""

KNOWN = ("Transformer", "Pooling", "Normalize")

FLAG = {"cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens", "mean": "pooling_mode_mean_tokens"}
"""How a pooling was written before `pooling_mode` was."""

ReadFile = Callable[[str], Any]
"""From the name of a JSON file beside the model to what it holds; None where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SentencePooling:
    """How the states of tokens become one vector."""

    pooling: Pooling = "mean"
    """Over real tokens: their mean, the first one's state, or the largest of each number."""

    normalize: bool = False
    """Whether the vector is brought to length 1."""

    scale: float = 1.0
    """What dot products with candidates are multiplied by: those of vectors of length 1 are 1 at most, so that a
    softmax over them is nearly flat."""

    def __call__(self, states_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """[B, D]."""
        vectors_BD = _pooled(states_BLD, mask_BL, self.pooling)
        return functional.normalize(vectors_BD, dim=1) if self.normalize else vectors_BD


def pooling_for(read: ReadFile, *, pooling: str | None, normalize: bool | None, scale: float = 1.0) -> SentencePooling:
    """As the files beside a model say, or else the mean as it is; what is given counts before them. Raises ValueError
    for a pooling that isn't known, and for a model whose vectors are more than pooled."""
    if not 0 < scale < math.inf:
        raise ValueError(f"scale = {scale} is no positive number")
    if pooling is not None and pooling not in POOLINGS:
        raise ValueError(f"pooling = {pooling!r} is unknown. {suggest(pooling, POOLINGS)}")
    listed = read(MODULES) or []
    steps = {str(each["type"]).rpartition(".")[2]: str(each.get("path", "")) for each in listed}
    others = [step for step in steps if step not in KNOWN]
    if others and pooling is None:
        raise ValueError(
            f"its {MODULES} has a step {others[0]}, and only pooling and normalising are known. Say `pooling = "
            f"'mean'` for the pooled states without it, or import its vectors"
        )
    told = _told_pooling(read(f"{steps['Pooling']}/config.json") or {}) if "Pooling" in steps and not pooling else None
    return SentencePooling(
        pooling=cast(Pooling, pooling or told or "mean"),
        normalize="Normalize" in steps if normalize is None else normalize,
        scale=scale,
    )


def _told_pooling(config: Mapping[str, Any]) -> str:
    told = config.get("pooling_mode") or [name for name in config if name.startswith("pooling_mode_") and config[name]]
    modes = [told] if isinstance(told, str) else list(told)
    found = next((name for name in POOLINGS if modes in ([name], [FLAG[name]])), None)
    if found is None:
        raise ValueError(
            f"it pools tokens by {', '.join(map(str, modes)) or 'nothing'}, expected {', '.join(POOLINGS)}. Say "
            f"`pooling`, or import its vectors"
        )
    return found


def give_sentence_embeddings(model: nn.Module, pool: SentencePooling) -> None:
    """From now on its forward gives `embedding` too, and takes candidates."""
    model.forward = partial(_with_embedding, model.forward, pool)


def _with_embedding(
    forward: Callable[..., Any],
    pool: SentencePooling,
    /,
    input_ids: Tensor,
    attention_mask: Tensor,
    candidate_ids: Tensor | None = None,
    candidate_mask: Tensor | None = None,
    **named: Any,
) -> Any:
    if candidate_ids is not None and candidate_mask is not None:
        vectors_of = partial(_vectors, forward, pool)
        return score_candidates(vectors_of, input_ids, attention_mask, candidate_ids, candidate_mask)
    outputs = forward(input_ids=input_ids, attention_mask=attention_mask, **named)
    outputs[EMBEDDING] = pool(outputs.last_hidden_state, attention_mask)
    return outputs


def _vectors(forward: Callable[..., Any], pool: SentencePooling, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """[B, D], scaled so that their dot products are scores."""
    states_BLD = forward(input_ids=ids_BL, attention_mask=mask_BL).last_hidden_state
    return pool(states_BLD, mask_BL) * math.sqrt(pool.scale)


def _pooled(states_BLD: Tensor, mask_BL: Tensor, pooling: Pooling) -> Tensor:
    is_real_BL = mask_BL.bool()
    if pooling == "cls":
        rows_B = torch.arange(len(states_BLD), device=states_BLD.device)
        return states_BLD[rows_B, is_real_BL.int().argmax(dim=1)]
    if pooling == "max":
        return states_BLD.masked_fill(~is_real_BL[:, :, None], -torch.inf).amax(dim=1)
    sums_BD = states_BLD.where(is_real_BL[:, :, None], 0).sum(dim=1)
    return sums_BD / is_real_BL.sum(dim=1, keepdim=True).to(states_BLD.dtype)
