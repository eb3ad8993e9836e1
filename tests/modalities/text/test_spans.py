"""Words that answers are made of, and the tokens that speak for them."""

# Shape letters: B texts in a batch, C classes.

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softlab.errors import InvalidOption
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import Text
from softlab.modalities.text.spans import NO_ANSWER, Span, find_words, words_of
from softlab.modalities.text.tokenizer import tokenizer_for, train_tokenizer
from tests.modalities.text.questions import CONTEXTS, QUESTIONS, input_of, save_reader

PIECES = train_tokenizer([*CONTEXTS, *QUESTIONS], vocab_size=60)
MODALITY = Text(fields=("question", "context"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reader(tmp_path_factory.mktemp("reader"))


def pieces(**options: object) -> TextInput:
    return input_of("train:60", trained=PIECES, **options)


def tokens_of(context: str, input: TextInput, *, question: str = QUESTIONS[0]) -> tuple[Tensor, Tensor]:
    """The first and the last token of each class, of one text."""
    named = MODALITY.collate([{"question": question, "context": context}], input).inputs.named
    return named["first_tokens"][0], named["last_tokens"][0]


def characters_of(context: str, input: TextInput, token: int) -> Span:
    return Span(*tokenizer_for(input).encode(QUESTIONS[0], context).offsets[token])


def test_words_are_what_stands_between_white_space() -> None:
    assert [text[start:end] for text in ["\tThe  3-day\u00a0trip, \n"] for start, end in words_of(text)] == [
        "The",
        "3-day",
        "trip,",
    ]
    assert words_of(" \n") == []


@pytest.mark.parametrize(("characters", "found"), [((4, 7), (1, 1)), ((0, 9), (0, 2))])
def test_an_answer_is_the_words_that_it_touches(characters: tuple[int, int], found: tuple[int, int]) -> None:
    assert find_words(words_of("The day trip"), *characters) == found


def test_a_word_has_the_beginning_of_its_first_token_and_the_end_of_its_last(words: Path) -> None:
    context = "The film, I think"

    first_C, last_C = tokens_of(context, input_of(words))

    # [CLS] which was fine ? [SEP] the film , i think [SEP]
    assert first_C[:6].tolist() == [0, 6, 7, 9, 10, -1]
    assert last_C[:6].tolist() == [0, 6, 8, 9, 10, -1]
    assert len(first_C) == 17


@given(st.text(st.sampled_from("film was .,\u200b\n dull\x01é中"), max_size=60).filter(lambda text: bool(text.strip())))
def test_the_tokens_of_a_word_begin_and_end_within_it(context: str) -> None:
    input = pieces(max_words=80, max_length=400)
    first_C, last_C = tokens_of(context, input)

    words = words_of(context)
    assert int((first_C >= 0).sum()) == len(words) + 1
    encoded = tokenizer_for(input).encode(QUESTIONS[0], context)
    for number, word in enumerate(words, start=1):
        first, last = encoded.offsets[first_C[number]], encoded.offsets[last_C[number]]
        read = [o for o, text in zip(encoded.offsets, encoded.sequence_ids, strict=True) if text == 1]
        inside = [o for o in read if o[0] < word.end and word.start < o[1]]
        if inside:
            assert (first, last) == (inside[0], inside[-1])
    assert not any(first_C[number] > last_C[number] for number in range(len(words) + 1))


def test_texts_have_the_same_classes_whatever_reads_them(words: Path) -> None:
    for context in CONTEXTS[:4]:
        found = [
            [(first_C >= 0).tolist(), (last_C >= 0).tolist()]
            for input in (input_of(words), pieces())
            for first_C, last_C in [tokens_of(context, input)]
        ]
        assert found[0] == found[1]
        assert sum(found[0][0]) == 1 + len(context.split())


@pytest.mark.parametrize("max_length", range(9, 24, 3))
def test_words_that_are_cut_off_in_part_are_no_classes(max_length: int) -> None:
    input, context = pieces(max_length=max_length + 12), CONTEXTS[0]

    first_C, last_C = tokens_of(context, input)

    read = [characters_of(context, input, int(token)) for token in last_C[1:] if token >= 0]
    words = words_of(context)[: len(read)]
    assert [each.end for each in read] == [word.end for word in words]
    assert (first_C >= 0).tolist() == (last_C >= 0).tolist()
    whole, _ = tokens_of(context, pieces(max_length=200))
    assert len(read) < int((whole >= 0).sum())
    assert first_C[: len(read) + 1].tolist() == whole[: len(read) + 1].tolist()


def test_words_behind_the_first_ones_are_no_classes(words: Path) -> None:
    first_C, _ = tokens_of(CONTEXTS[0], input_of(words, max_words=3))

    assert first_C.shape == (4,)
    assert bool((first_C >= 0).all())


def test_no_answer_is_the_token_in_front(words: Path) -> None:
    first_C, last_C = tokens_of(CONTEXTS[0], input_of(words))

    assert first_C[NO_ANSWER] == last_C[NO_ANSWER] == 0


def test_a_question_is_read_whole_and_the_context_cut(words: Path) -> None:
    input = input_of(words, max_length=10)
    ids_L = MODALITY.collate([{"question": QUESTIONS[0], "context": CONTEXTS[0]}], input).inputs.named["input_ids"][0]

    whole = tokenizer_for(input_of(words)).encode(QUESTIONS[0], CONTEXTS[0])
    assert ids_L[:9].tolist() == whole.ids[:9]


def test_a_question_without_room_for_the_context_is_refused(words: Path) -> None:
    with pytest.raises(InvalidOption, match=r"'which was fine \?' has too many tokens: only 6 are let in"):
        tokens_of(CONTEXTS[0], input_of(words, max_length=6))


@pytest.mark.parametrize(
    "options",
    [{"max_words": -1}, {"pair_field": ""}, {"truncation": "left"}],
)
def test_answers_without_a_context_that_is_read_from_its_beginning_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=r"^input\.max_words = "):
        input_of("somewhere", **options)


def test_an_input_says_which_outputs_go_together() -> None:
    assert input_of("somewhere").outputs == ("start", "end")
    assert TextInput().outputs == ()
