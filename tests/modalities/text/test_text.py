from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import normalizers

import softlab
from softlab.errors import InvalidOption, OddSource, StoreMismatch
from softlab.manifest import InputRecord, TokensRecord
from softlab.modalities.modality import InputOptions, Modality, decode_sample, decoding_for, settle_input
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.modalities.text.tokenizer import train_tokenizer
from softlab.sources.source import Raw
from softlab.testing.modalities import ModalityContract
from tests.modalities.text.reviews import TEXTS, save_tokenizer, word_tokenizer, write_reviews

TRAINED = TextInput(tokenizer="train:120", trained=train_tokenizer(TEXTS, vocab_size=120))


class TestText(ModalityContract):
    @pytest.fixture
    def modality(self) -> Modality:
        return MODALITY

    @pytest.fixture
    def raws(self) -> Sequence[Raw]:
        return [*TEXTS[:5], "häßlich".encode()]

    @pytest.fixture
    def inputs(self, tmp_path: Path) -> Sequence[InputOptions]:
        return [
            TRAINED,
            replace(TRAINED, max_length=4, truncation="left"),
            replace(TRAINED, unit="word"),
            TextInput(tokenizer=str(save_tokenizer(tmp_path))),
        ]


def test_texts_are_padded_to_the_longest_of_their_batch_and_those_cut_off_counted() -> None:
    collated = MODALITY.collate(
        [MODALITY.decode("a film"), MODALITY.decode("a film a film a film")], replace(TRAINED, max_length=6)
    )

    named = collated.inputs.named
    assert named.keys() == {"input_ids", "attention_mask"}
    assert named["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]
    assert named["input_ids"][0].tolist()[4:] == [0, 0]
    assert collated.cut_off == 1
    assert collated.tokens == TokensRecord(read=10, cut_off=2)


@pytest.mark.parametrize("truncation", ["right", "left"])
def test_tokens_that_are_cut_off_are_those_that_a_longer_input_has_more(
    tmp_path: Path, truncation: Literal["right", "left"]
) -> None:
    """Of a pair too, of which both texts are cut."""
    words = TextInput(tokenizer=str(save_tokenizer(tmp_path)), max_length=100, truncation=truncation)
    long, other = " ".join(TEXTS[:4]), " ".join(TEXTS[5:8])
    for options in (words, replace(words, pair_field="other")):
        example = {"": long, "other": other}
        tokens = MODALITY.collate([example], options).tokens
        assert tokens is not None
        whole = tokens.read
        for max_length in (4, 6, 9, whole - 1, whole):
            found = MODALITY.collate([example], replace(options, max_length=max_length))
            assert found.tokens == TokensRecord(read=max_length, cut_off=whole - max_length)
            assert found.cut_off == (max_length < whole)


def pairs(path: Path) -> softlab.SourceOptions:
    columns = {"question": ["a film", "a book"], "answer": ["it was great", "this is a dull one"], "label": [0, 1]}
    pq.write_table(pa.table(columns), path)
    return softlab.SourceOptions(path=str(path), fields={"question": "question", "answer": "answer"})


def test_a_pair_is_read_from_two_fields_and_told_apart(tmp_path: Path) -> None:
    source = softlab.open_source(pairs(tmp_path / "pairs.parquet"), modality="text")
    options = replace(TRAINED, field="question", pair_field="answer")
    modality = decoding_for(MODALITY, (options,))

    named = MODALITY.collate([decode_sample(source.read(0), modality)], options).inputs.named

    assert named["token_type_ids"].tolist() == [[0] * 4 + [1] * 4]


def test_models_of_one_run_may_read_different_fields(tmp_path: Path) -> None:
    source = softlab.open_source(pairs(tmp_path / "pairs.parquet"), modality="text")
    first, second = replace(TRAINED, field="question"), replace(TRAINED, field="answer")
    seen = InputRecord(field="question", modality="text", options={"field": "question"})
    example = decode_sample(source.read(1), decoding_for(MODALITY, (first, second), [seen]))

    assert example == {"question": "a book", "answer": "this is a dull one"}
    together = decoding_for(MODALITY, (second,), [seen])
    alone = decoding_for(MODALITY, (first,))
    assert together.digest(example) == alone.digest(decode_sample(source.read(1), alone))


def test_a_field_that_is_not_there_is_refused(tmp_path: Path) -> None:
    source = softlab.open_source(pairs(tmp_path / "pairs.parquet"), modality="text")

    with pytest.raises(InvalidOption, match=r"has no field 'anser' \(it has question, answer\). Did you mean answer"):
        settle_input(replace(TRAINED, field="question", pair_field="anser"), source)


def test_a_tokenizer_is_trained_on_the_source_once(tmp_path: Path) -> None:
    source = softlab.open_source(write_reviews(tmp_path / "reviews.parquet"), modality="text")

    settled = settle_input(TextInput(tokenizer="train:120"), source)

    assert settled.trained == TRAINED.trained
    assert (len(settled.identity), settled.max_length) == (64, 512)
    assert settle_input(settled, source) == settled


def test_texts_that_lose_their_end_are_told(tmp_path: Path) -> None:
    source = softlab.open_source(write_reviews(tmp_path / "reviews.parquet"), modality="text")

    with pytest.warns(
        OddSource, match=r"36 of 36 texts that were looked at are longer than 4 tokens, and lose their end"
    ):
        settle_input(TextInput(tokenizer="train:120", max_length=4), source)


def test_a_changed_tokenizer_is_refused_when_its_input_is_used_again(tmp_path: Path) -> None:
    source = softlab.open_source(write_reviews(tmp_path / "reviews.parquet"), modality="text")
    settled = settle_input(TextInput(tokenizer=str(save_tokenizer(tmp_path))), source)
    (tmp_path / "tokenizer.json").write_text((tmp_path / "tokenizer.json").read_text().replace("lovely", "lively"))

    with pytest.raises(StoreMismatch, match="has changed"):
        settle_input(settled, source)


def test_a_student_that_needs_the_teachers_tokenizer_is_refused_with_another(tmp_path: Path) -> None:
    source = softlab.open_source(write_reviews(tmp_path / "reviews.parquet"), modality="text")
    teachers = settle_input(TextInput(tokenizer=str(save_tokenizer(tmp_path))), source)
    own = settle_input(replace(TRAINED, same_tokenizer=True), source)
    seen = InputRecord(field="text", modality="text", options={"tokenizer": "bert", "identity": teachers.identity})

    with pytest.raises(StoreMismatch, match=r"this student's tokenizer \(train:120, .*\) isn't the teacher's \(bert, "):
        decoding_for(MODALITY, (own,), [seen])
    decoding_for(MODALITY, (replace(teachers, same_tokenizer=True), replace(own, same_tokenizer=False)), [seen])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"caf\xe9", "can't decode byte 0xe9"),
        ("", "its text is empty"),
        (" \n", "its text is empty"),
        (torch.zeros(2).numpy(), "it isn't text"),
    ],
)
def test_what_is_no_text_is_refused(raw: Raw, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        MODALITY.decode(raw)


def test_what_a_tokenizer_leaves_nothing_of_is_refused(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.normalizer, tokenizer.post_processor = normalizers.Replace("~", ""), None
    options = TextInput(tokenizer=str(save_tokenizer(tmp_path, tokenizer)))
    examples = [MODALITY.decode("~~")]

    with pytest.raises(InvalidOption, match=r"leaves nothing of the text '~~'"):
        MODALITY.collate(examples, options)
