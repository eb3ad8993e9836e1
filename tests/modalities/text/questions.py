"""Small questions with answers in a text, and readers for them."""

import warnings
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import softlab
from softlab.modalities.text.inputs import TextInput
from tests.modalities.text.reviews import SPECIAL, save_tokenizer

THINGS = ["film", "book", "meal", "trip", "song"]
PAIRS = list(permutations(THINGS, 2))
QUESTIONS = ["which was fine ?", "which was dull ?"] * len(PAIRS)
CONTEXTS = [f"The {fine}, I think, was fine and the {dull} was dull." for fine, dull in PAIRS for _ in range(2)]
ANSWERS = [thing for pair in PAIRS for thing in pair]
STARTS = [context.index(answer) for context, answer in zip(CONTEXTS, ANSWERS, strict=True)]
WORDS = [2, 9] * len(PAIRS)
"""Which word each answer is, counted from 1."""

MAX_WORDS = 16
FIELDS = {"question": "question", "context": "context"}


def word_tokenizer() -> Tokenizer:
    """A token for each word and sign of the texts, in lower case."""
    from tokenizers import normalizers

    split = pre_tokenizers.Whitespace()
    words = sorted({word for text in (*QUESTIONS, *CONTEXTS) for word, _ in split.pre_tokenize_str(text.lower())})
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = split
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def save_reader(folder: Path, *, seed: int = 0, **config: Any) -> Path:
    """A BERT with random weights that answers questions, and its tokenizer."""
    from transformers import BertConfig, BertForQuestionAnswering
    from transformers.utils import logging

    tokenizer = word_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    whole = sizes | {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 32} | config
    torch.manual_seed(seed)
    model = BertForQuestionAnswering(BertConfig(**whole))
    with torch.no_grad():  # else it says nearly the same of all words
        for parameter in model.parameters():
            parameter.mul_(4)
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        model.save_pretrained(folder)
    return save_tokenizer(folder, tokenizer, model_max_length=32)


def input_of(tokenizer: str | Path, **options: Any) -> TextInput:
    whole: dict[str, Any] = {"field": "question", "pair_field": "context", "max_words": MAX_WORDS} | options
    return TextInput(tokenizer=str(tokenizer), **whole)


def squad_cells(texts: Sequence[Sequence[str]], starts: Sequence[Sequence[int]]) -> pa.Array:
    """As SQuAD's files have answers."""
    cells = [{"text": list(t), "answer_start": list(s)} for t, s in zip(texts, starts, strict=True)]
    return pa.array(cells, pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int32())}))


def write_questions(
    path: Path,
    *,
    contexts: Sequence[str] = CONTEXTS,
    answers: Sequence[str] = ANSWERS,
    starts: Sequence[int] = STARTS,
) -> Path:
    cells = squad_cells([[answer] for answer in answers], [[start] for start in starts])
    pq.write_table(
        pa.table({"question": QUESTIONS[: len(contexts)], "context": list(contexts), "answers": cells}), path
    )
    return path


def open_questions(path: Path, **options: Any) -> Any:
    return softlab.open_source(softlab.SourceOptions(path=str(path), fields=FIELDS, **options), modality="text")
