"""Which words of a text have a row, and where: compared with counting by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.modalities.text.tokenizer import tokenizer_for, train_tokenizer
from softlab.modalities.text.words import joined_words, word_spans
from tests.modalities.text.reviews import save_tokenizer
from tests.modalities.text.tagged import SENTENCES, pieces

TRAINED = TextInput(tokenizer="train:90", trained=train_tokenizer(SENTENCES, vocab_size=90), unit="word")


def units_of(texts: list[str], options: TextInput) -> tuple[list[int], list[list[int]], list[list[str]], list[int]]:
    """How many rows each text has, of which words, the token of each row, and all words."""
    collated = MODALITY.collate([MODALITY.decode(text) for text in texts], options)
    units, ids_BL = collated.units, collated.inputs.named["input_ids"]
    assert units is not None
    assert units.numbers_R is not None
    assert units.totals_B is not None
    counts = units.rows_B.tolist()
    tokens = [tokenizer_for(options).rust.id_to_token(each) or "" for each in ids_BL.flatten()[units.keys_R].tolist()]
    numbers = [part.tolist() for part in torch.split(units.numbers_R, counts)]
    ends = [sum(counts[: place + 1]) for place in range(len(counts))]
    of_each = [tokens[end - count : end] for end, count in zip(ends, counts, strict=True)]
    return counts, numbers, of_each, units.totals_B.tolist()


@given(st.text(max_size=40))
def test_words_are_what_stands_between_white_space(text: str) -> None:
    assert [text[begin:behind] for begin, behind in word_spans(text).tolist()] == text.split()


def test_a_word_has_the_row_of_its_first_token(tmp_path: Path) -> None:
    options = TextInput(tokenizer=str(save_tokenizer(tmp_path, pieces())), unit="word")

    counts, numbers, tokens, totals = units_of(["Ann  went", " in Oslo ,\n"], options)

    assert counts == totals == [2, 3]
    assert numbers == [[0, 1], [0, 1, 2]]
    assert tokens == [["An", "we"], ["in", "Os", ","]]


def test_words_that_are_cut_off_have_no_row(tmp_path: Path) -> None:
    options = TextInput(tokenizer=str(save_tokenizer(tmp_path, pieces())), unit="word")
    text = "Ann went to Oslo"  # pieces: An n we nt to Os lo, between two special ones

    assert units_of([text], replace(options, max_length=6))[1:] == ([[0, 1]], [["An", "we"]], [4])
    assert units_of([text], replace(options, max_length=3))[1:] == ([[0]], [["An"]], [4])
    left = replace(options, truncation="left")
    assert units_of([text], replace(left, max_length=6))[1:] == ([[2, 3]], [["to", "Os"]], [4])
    assert units_of([text], replace(left, max_length=3))[:2] == ([0], [[]])


def test_a_word_that_the_tokenizer_leaves_nothing_of_has_no_row(tmp_path: Path) -> None:
    tokenizer = pieces()
    tokenizer.normalizer = normalizers.Replace("~", "")
    options = TextInput(tokenizer=str(save_tokenizer(tmp_path, tokenizer)), unit="word")

    assert units_of(["in ~~ Oslo"], options)[1:] == ([[0, 2]], [["in", "Os"]], [3])


def test_of_a_pair_the_words_of_the_first_text_have_rows(tmp_path: Path) -> None:
    options = replace(TRAINED, field="first", pair_field="second")
    examples = [{"first": "Ann sang", "second": "in New York"}]

    units = MODALITY.collate(examples, options).units

    assert units is not None
    assert units.numbers_R is not None
    assert units.numbers_R.tolist() == [0, 1]


def byte_level(*, trim: bool) -> Any:
    """As GPT-2 cuts texts, where a token may begin with a space, and its offsets too."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(["[PAD]", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim)
    tokenizer.add_special_tokens(["[PAD]"])
    return tokenizer


@pytest.mark.parametrize("trim", [True, False])
def test_a_token_of_white_space_alone_is_no_words(tmp_path: Path, trim: bool) -> None:
    options = TextInput(
        tokenizer=str(save_tokenizer(tmp_path, byte_level(trim=trim), model_max_length=99)), unit="word"
    )

    counts, numbers, tokens, _ = units_of(["né  a b"], options)

    assert (counts, numbers) == ([3], [[0, 1, 2]])
    assert tokens == [["n", "a", "b"]]


@given(st.lists(st.sampled_from([*"abÄ.,é", "Oslo", "went"]), min_size=1).map("".join), st.sampled_from([" ", "\n\t "]))
def test_two_tokenizers_have_the_same_words(word: str, space: str) -> None:
    text = f"Ann{space}{word}{space}sang"

    numbers, tokens = units_of([text], TRAINED)[1:3]

    assert numbers == [[0, 1, 2]]
    assert tokens[0][2].lstrip("▁").startswith("s")


def test_a_list_of_words_is_the_text_that_has_them() -> None:
    assert MODALITY.decode({"text": ("Ann", ",", "Bo", "!")}) == {"text": "Ann , Bo !"}


def test_a_list_without_words_is_an_empty_text() -> None:
    with pytest.raises(ValueError, match="its text is empty"):
        MODALITY.decode({"text": ()})


@pytest.mark.parametrize(("word", "found"), [("", "it is empty"), ("a b", "'a b' holds white space")])
def test_a_word_that_the_text_would_not_have_is_refused(word: str, found: str) -> None:
    with pytest.raises(ValueError, match=rf"word 2 is none, as {found}"):
        joined_words(["Hi", word])
