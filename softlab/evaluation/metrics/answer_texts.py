"""From logits over words to the text of an answer, and how right that is, as SQuAD counts (Rajpurkar et al. 2016)."""

# Shape letters: B texts in a batch, C classes: no answer, and the words of a text.

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

LONGEST = 30
"""Words of an answer."""

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def likely_spans(start_BC: Tensor, end_BC: Tensor) -> tuple[Tensor, Tensor]:
    """int64 [B], the classes at which the likeliest answer begins and ends, by the sum of both logits: of no answer (0
    and 0), and all stretches of up to LONGEST words. Of equal ones the shortest counts, and then the first."""
    no_answer_B = start_BC[:, 0] + end_BC[:, 0]
    start_BC, end_BC = start_BC[:, 1:], end_BC[:, 1:]
    best = (no_answer_B, torch.zeros_like(no_answer_B).long(), torch.zeros_like(no_answer_B).long())
    for length in range(min(LONGEST, start_BC.shape[1])):
        found_B, first_B = (start_BC[:, : start_BC.shape[1] - length] + end_BC[:, length:]).max(dim=1)
        is_better_B = found_B > best[0]
        found = (found_B, first_B + 1, first_B + 1 + length)
        first, second, third = (torch.where(is_better_B, new, old) for new, old in zip(found, best, strict=True))
        best = (first, second, third)
    return best[1], best[2]


def normalised(text: str) -> str:
    """Without case, punctuation, articles and more white space than between words."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(given: str, right: str) -> float:
    return float(normalised(given) == normalised(right))


def word_f1(given: str, right: str) -> float:
    """Of the words that both have; where one has none, whether both have none."""
    ours, theirs = normalised(given).split(), normalised(right).split()
    common = sum((Counter(ours) & Counter(theirs)).values())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * common / (len(ours) + len(theirs))


def best_of(figure: Callable[[str, str], float], given: str, right: Sequence[str]) -> float:
    """By the right answer that is nearest; where there is none, an empty one is right."""
    return max(figure(given, each) for each in right or ("",))
