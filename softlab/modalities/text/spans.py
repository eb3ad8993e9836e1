"""Answers as spans of words, so that models with tokenizers of their own answer at the same places.

    text     The  river  rises  in  spring .        max_words = 7
    class 0  1    2      3      4   5               "no answer" is class 0; here a row has the classes 0 to 5
    tokens   the  riv ##er rises in spring .        one tokenizer; another one has other tokens, and the same words

Words are what stands between white space: the text alone tells them. A word's logit as the beginning of an answer is
that of its first token, as the end that of its last one. "No answer" has the token in front, such as [CLS].
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from softlab.modalities.answers import AnsweredText
from softlab.sources.answers import Answer

OUTPUTS = ("start", "end")
"""What a model that seeks answers gives, each [B, 1 + max_words]."""

FIRST_TOKENS, LAST_TOKENS = "first_tokens", "last_tokens"
"""What such a model is told beside its tokens: for each class the token whose logit it has, -1 for none; int64
[B, 1 + max_words]."""

NO_ANSWER = 0

WORD = re.compile(r"\S+")
"""As `str.split` finds them."""

CONTEXT = 1
"""The second text of a pair, as `Encoded.sequence_ids` counts them."""


class Encoded(Protocol):
    """What tokenizers' `Encoding` says of one pair of texts."""

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """The characters of each token, in its own text."""
        ...

    @property
    def sequence_ids(self) -> list[int | None]:
        """Which text each token is of; None of special ones."""
        ...

    @property
    def overflowing(self) -> Sequence[object]:
        """What was cut off; empty for nothing."""
        ...


class Span(NamedTuple):
    """Characters of a text."""

    start: int
    end: int
    """Behind the last one."""


def words_of(text: str) -> list[Span]:
    """What stands between white space."""
    return [Span(*found.span()) for found in WORD.finditer(text)]


def find_words(words: Sequence[Span], start: int, end: int) -> tuple[int, int]:
    """The first and the last word that some characters touch, counted from 0. These must not be white space alone."""
    touched = [number for number, word in enumerate(words) if word.start < end and start < word.end]
    return touched[0], touched[-1]


def find_answer(
    context: str, right: Sequence[Answer] | None, *, max_words: int
) -> tuple[AnsweredText, tuple[int, int]]:
    """A text with what is right, and the classes at which the first right answer begins and ends: -1 where nothing is
    known, above `max_words` where it lies behind. Raises ValueError for an answer that isn't where it is said to be."""
    words = words_of(context)
    told = AnsweredText(
        text=context,
        spans=tuple(words[:max_words]),
        right=None if right is None else tuple(answer.text for answer in right),
    )
    if not right:
        return told, (-1, -1) if right is None else (NO_ANSWER, NO_ANSWER)
    for answer in right:
        end = answer.start + len(answer.text)
        there = context[max(answer.start, 0) : max(end, 0)]
        if there != answer.text or not answer.text.strip():
            raise ValueError(
                f"its answer {answer.text!r} isn't at character {answer.start:,} of the text, where {there!r} stands"
            )
    first, last = find_words(words, right[0].start, right[0].start + len(right[0].text))
    return told, (first + 1, last + 1)


def class_tokens(encoded: Encoded, context: str, *, max_words: int) -> tuple[list[int], list[int]]:
    """For each class of a text, the first and the last of its tokens. Words that were cut off, in part or wholly, and
    those behind the first `max_words` are no classes of it."""
    words = words_of(context)[:max_words]
    spans = _token_spans(encoded, words)
    front = _token_in_front(encoded)
    return [front, *(first for first, _ in spans)], [front, *(last for _, last in spans)]


def _token_spans(encoded: Encoded, words: Sequence[Span]) -> list[tuple[int, int]]:
    """The first and the last token of each word that was read whole."""
    tokens = [
        (number, *encoded.offsets[number])
        for number, text in enumerate(encoded.sequence_ids)
        if text == CONTEXT and encoded.offsets[number][0] < encoded.offsets[number][1]
    ]
    if not tokens:
        return []
    read_up_to = tokens[-1][2] if encoded.overflowing else words[-1].end if words else 0
    spans: list[tuple[int, int]] = []
    begin = 0
    for word in words:
        if word.end > read_up_to:
            break
        while begin < len(tokens) and tokens[begin][2] <= word.start:
            begin += 1
        stop = begin
        while stop < len(tokens) and tokens[stop][1] < word.end:
            stop += 1
        # A word of which a tokenizer leaves nothing, such as a control character, has what the word before it has.
        before = spans[-1] if spans else (tokens[0][0], tokens[0][0])
        spans.append((tokens[begin][0], tokens[stop - 1][0]) if stop > begin else before)
    return spans


def _token_in_front(encoded: Encoded) -> int:
    """The first special token; the first of all where a tokenizer adds none."""
    return next((number for number, text in enumerate(encoded.sequence_ids) if text is None), 0)
