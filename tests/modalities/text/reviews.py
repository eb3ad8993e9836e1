"""Small texts, and tokenizers for them."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import softlab

THINGS = ["film", "book", "meal", "trip", "song", "play"]
GOOD, BAD = (
    ["a lovely {}", "this {} was great", "what a fine {} it is"],
    ["a dull {}", "this {} was awful", "no {} is worse"],
)
TEXTS = [each.format(thing) for pair in zip(GOOD, BAD, strict=True) for thing in THINGS for each in pair]
LABELS = [number % 2 for number in range(len(TEXTS))]
"""0 for good ones, 1 for bad ones."""

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def word_tokenizer(*, special: Sequence[str] = SPECIAL) -> Tokenizer:
    """A token for each word of the texts; special tokens have the first ids."""
    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def save_tokenizer(folder: Path, tokenizer: Tokenizer | None = None, **config: object) -> Path:
    """As save_pretrained of a fast tokenizer writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    (tokenizer or word_tokenizer()).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]", "model_max_length": 24} | config))
    return folder


def write_reviews(
    path: Path, *, texts: Sequence[object] = TEXTS, labels: Sequence[object] = LABELS
) -> softlab.SourceOptions:
    """A Parquet file of texts, and how it is opened."""
    pq.write_table(pa.table({"review": pa.array(texts), "label": pa.array(labels)}), path)
    return softlab.SourceOptions(path=str(path), fields={"text": "review"}, class_names=())
