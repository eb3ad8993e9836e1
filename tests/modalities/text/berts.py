"""Small transformers with random weights, as save_pretrained writes them."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.modalities.text.reviews import save_tokenizer, word_tokenizer

NAMES = ("good", "bad")


def save_bert(
    folder: Path,
    *,
    names: Sequence[str] | None = NAMES,
    seed: int = 0,
    kind: str = "BertForSequenceClassification",
    tokenizer: Any = None,
    max_length: int = 24,
    **config: Any,
) -> Path:
    """A BERT of 16 numbers a token with its tokenizer, for two classes."""
    import transformers
    from transformers.utils import logging

    tokenizer = tokenizer or word_tokenizer()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    named = (
        {} if names is None else {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    )
    whole = sizes | {"vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 32} | named | config
    torch.manual_seed(seed)
    model = getattr(transformers, kind)(transformers.BertConfig(**whole))
    with torch.no_grad():  # else it says nearly the same of all texts
        for parameter in model.parameters():
            parameter.mul_(4)
    logging.disable_progress_bar()
    with warnings.catch_warnings():
        model.save_pretrained(folder)
    return save_tokenizer(folder, tokenizer, model_max_length=max_length)
