"""Scores of a cross-encoder: a classifier with one output, which reads a query together with a candidate.

The model's forward takes all candidates of a query at once, [B, N, L]; no layer gets another name.
"""

# Shape letters: B queries in a batch, N candidates of the one that has most, L tokens of the longest pair.

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from softlab.labels.candidates import score_pairs


def give_scores(model: Any) -> None:
    """From now on its forward takes pairs [B, N, L] too, and gives their scores [B, N]. Raises ValueError for a model
    with several outputs."""
    if model.config.num_labels != 1:
        raise ValueError(
            f"it has {model.config.num_labels} outputs a pair, and a ranking is by one score. Say `num_labels = 1` for "
            f"a head of its own, or choose a cross-encoder"
        )
    module: nn.Module = model
    module.forward = partial(_scores, module.forward)


def _scores(forward: Callable[..., Any], /, input_ids: Tensor, **named: Any) -> Any:
    if input_ids.ndim != 3:
        return forward(input_ids=input_ids, **named)
    return score_pairs(partial(_logits, forward), {"input_ids": input_ids, **named})


def _logits(forward: Callable[..., Any], **named: Tensor) -> Tensor:
    logits_R1: Tensor = forward(**named).logits
    return logits_R1
