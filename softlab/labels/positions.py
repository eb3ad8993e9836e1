"""Scores of tokens as logits over positions that don't depend on a tokenizer."""

# Shape letters: B samples in a batch, L tokens of the longest one, C classes: positions of a sample, such as its words.

import math

from torch import Tensor


def logits_at(scores_BL: Tensor, tokens_BC: Tensor) -> Tensor:
    """[B, C], for each class the score of its token; -inf where a sample lacks the class, whose token is -1."""
    found_BC = scores_BL.gather(1, tokens_BC.clamp(min=0))
    return found_BC.masked_fill(tokens_BC < 0, -math.inf)
