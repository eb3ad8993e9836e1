"""Sentences whose words have tags, made by rule, and small token classifiers for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import softlab
from tests.modalities.text.berts import save_bert

PEOPLE, PLACES = ("Ann Lee", "Bo", "Cy Okafor"), ("Oslo", "New York")
FRAMES = ("{who} went to {where} .", "in {where} , {who} sang", "{where} is far from {who}")
NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def _tagged(frame: str, who: str, where: str) -> tuple[list[str], list[str]]:
    words, tags = [], []
    for part in frame.split():
        for given, kind in ((who, "PER"), (where, "LOC")):
            if part == {"PER": "{who}", "LOC": "{where}"}[kind]:
                own = given.split()
                words += own
                tags += [f"B-{kind}", *[f"I-{kind}"] * (len(own) - 1)]
        if "{" not in part:
            words.append(part)
            tags.append("O")
    return words, tags


PAIRS = [_tagged(frame, who, where) for frame in FRAMES for who in PEOPLE for where in PLACES]
SENTENCES = [" ".join(words) for words, _ in PAIRS]
TAGS = [tags for _, tags in PAIRS]
COUNTS = [len(tags) for tags in TAGS]


def numbers(tags: Sequence[str], names: Sequence[str] = NAMES) -> list[int]:
    return [names.index(tag) for tag in tags]


def write_tagged(
    path: Path, *, texts: Sequence[object] = SENTENCES, tags: Sequence[object] | None = TAGS, **options: Any
) -> softlab.SourceOptions:
    """A Parquet file of sentences, and how it is opened."""
    columns = {"sentence": pa.array(texts)} | ({} if tags is None else {"tags": pa.array(tags)})
    pq.write_table(pa.table(columns), path)
    labels: dict[str, Any] = (
        {} if tags is None else {"label_column": "tags", "label_sequences": True, "class_names": NAMES}
    )
    return softlab.SourceOptions(path=str(path), **{"fields": {"text": "sentence"}} | labels | options)


def open_tagged(path: Path, **options: Any) -> Any:
    return softlab.open_source(write_tagged(path, **options), modality="text")


def save_tagger(folder: Path, *, names: Sequence[str] = NAMES, max_length: int = 24) -> Path:
    """A BERT that answers for each token, with pieces of its own."""
    return save_bert(folder, names=names, kind="BertForTokenClassification", tokenizer=pieces(), max_length=max_length)


def pieces() -> Any:
    """Two letters a token, and so several tokens a word."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    cut = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(".{1,2}"), "isolated")])
    found = {piece for text in SENTENCES for piece, _ in cut.pre_tokenize_str(text)}
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(found)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = cut
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    )
    return tokenizer
