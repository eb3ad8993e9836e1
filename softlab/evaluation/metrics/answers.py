"""How often a model finds the answer in a text."""

# Shape letters: B texts in a batch, R = 2 * B rows, C classes.

from collections.abc import Callable

import torch

from softlab.evaluation.metrics.accuracy import Accuracy
from softlab.evaluation.metrics.answer_texts import best_of, exact_match, likely_spans, word_f1
from softlab.evaluation.metrics.metric import Outputs
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import SHARE
from softlab.loading.batch import Batch

NEEDS: frozenset[Need] = frozenset({"answers", "logits"})


class _OfTexts:
    """Mean over the texts whose answer is known."""

    figure: Callable[[str, str], float]
    """How right an answer is beside a right one, 0 to 1."""

    def __init__(self, device: torch.device) -> None:
        self._total, self._texts = 0.0, 0

    def add(self, outputs: Outputs, batch: Batch) -> None:
        start_BC, end_BC = outputs.logits_BC[0::2], outputs.logits_BC[1::2]
        found = torch.stack(likely_spans(start_BC, end_BC), dim=1).tolist()
        for (first, last), text in zip(found, batch.answers, strict=True):
            if text.right is not None:
                self._total += best_of(type(self).figure, text.between(first, last), text.right)
                self._texts += 1

    def value(self) -> float | None:
        return self._total / self._texts if self._texts else None


class AnswerMatch(_OfTexts):
    """Share of the texts whose likeliest answer is a right one, but for case, punctuation and articles."""

    name, label, column = "answer_match", "answers that match exactly", "EM"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = NEEDS
    figure = staticmethod(exact_match)


class AnswerF1(_OfTexts):
    """Mean F1 of the words of the likeliest answer and of the right one that is nearest."""

    name, label, column = "answer_f1", "F1 of the words of answers", "answer F1"
    unit, higher_is_better = SHARE, True
    needs: frozenset[Need] = NEEDS
    figure = staticmethod(word_f1)


class AnswerPosition(Accuracy):
    """Share of the rows, of beginnings and of ends, whose largest logit is at the word of the first right answer."""

    name, label, column = "answer_position", "beginnings and ends at the right word", "position"
    needs: frozenset[Need] = NEEDS


OF_WHOLE_ANSWERS = (AnswerMatch, AnswerF1)
"""They need beginnings and ends together."""
