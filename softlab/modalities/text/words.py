"""The words of a text as its units, found in the text alone: any two tokenizers have the same ones.

A word is as much text as stands between white space. Its row is that of its first token; it has none where that token
was cut off, or where the tokenizer leaves nothing of it.

    text          Mr  Skimpole   was  here
    number        0   1          2    3
    tokens        mr  ski ##mp.. was            at most 6 of them
    has a row     *   *          *              the rows are those of the words 0, 1 and 2
"""

# Shape letters: B texts in a batch, L tokens of the longest one of them, R rows of all words that have one, W words of
# one text, T tokens of one text that stand for some of it.

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from softlab.modalities.inputs import Units
from softlab.modalities.text.spans import WORD

Places = NDArray[np.int64]


class Encoding(Protocol):
    """What is looked at of an encoding of the `tokenizers` package."""

    @property
    def sequence_ids(self) -> Sequence[int | None]:
        """Of each token, which text of a pair it is of; None of a special one."""
        ...

    @property
    def offsets(self) -> Sequence[tuple[int, int]]:
        """Of each token, where it begins in its text, and behind it, in characters."""
        ...

    @property
    def overflowing(self) -> Sequence[object]:
        """The parts that were cut off."""
        ...


def joined_words(words: Sequence[str]) -> str:
    """A text of these words. Raises ValueError for one that the text wouldn't have: another number of words shifts all
    labels behind it."""
    for number, word in enumerate(words, start=1):
        if word.split() != [word]:
            found = f"{word!r} holds white space" if word else "it is empty"
            raise ValueError(f"word {number:,} is none, as {found}")
    return " ".join(words)


def word_spans(text: str) -> Places:
    """int64 [W, 2]: where each word begins, and behind it, in characters."""
    return np.array([found.span() for found in WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)


def first_tokens(encoded: Encoding, words_W2: Places) -> tuple[Places, Places]:
    """The numbers of the words that have a row, ascending, and which token that of each is. Of a pair of texts they are
    the words of the first."""
    texts, spans = np.array(encoded.sequence_ids, dtype=np.float64), np.array(encoded.offsets, dtype=np.int64)
    tokens_T = np.flatnonzero((texts == 0) & (spans[:, 0] < spans[:, 1]))
    first_T, behind_T = spans[tokens_T].T
    # The first token that ends behind the beginning of a word is the word's own, if it begins before the word ends.
    found_W = np.searchsorted(behind_T, words_W2[:, 0], side="right")
    is_there_W = found_W < len(tokens_T)
    found_W = np.minimum(found_W, max(len(tokens_T) - 1, 0))
    if len(tokens_T):
        is_there_W &= first_T[found_W] < words_W2[:, 1]
        if encoded.overflowing:  # a text that has lost its beginning may begin in the middle of a word
            is_there_W &= (found_W > 0) | (first_T[found_W] <= words_W2[:, 0])
    numbers_R = np.flatnonzero(is_there_W)
    return numbers_R, tokens_T[found_W[numbers_R]] if len(tokens_T) else numbers_R


def word_units(encoded: Sequence[Encoding], texts: Sequence[str], *, length: int) -> Units:
    """Of some texts that are filled up to `length` tokens."""
    words = [word_spans(text) for text in texts]
    found = [first_tokens(each, words_W2) for each, words_W2 in zip(encoded, words, strict=True)]
    return Units.numbered(
        [torch.from_numpy(numbers_R) for numbers_R, _ in found],
        [torch.from_numpy(tokens_R) for _, tokens_R in found],
        totals=[len(words_W2) for words_W2 in words],
        length=length,
    )


def count_words(encoded: Sequence[Encoding], texts: Sequence[str]) -> tuple[int, int]:
    """How many words have no row, and how many there are."""
    units = word_units(encoded, texts, length=0)
    assert units.totals_B is not None, "words have numbers"
    total = int(units.totals_B.sum())
    return total - int(units.rows_B.sum()), total
