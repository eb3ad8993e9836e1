"""A small causal language model as a teacher, documents that it has read, and students for them."""

# Shape letters: B samples in a batch, L tokens of the longest, C tokens of the vocabulary.

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

import softlab
from softlab.modalities.modality import settle_input
from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from softlab.modalities.tokens.models import tokens_transformer
from tests.modalities.tokens.llamas import DOCUMENTS, save_tokenizer

VOCABULARY = 320


def small_model(*, seed: int, scale: float = 1.0) -> nn.Module:
    """Gives lazy logits; with a larger `scale` it is surer of them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = tokens_transformer(vocab_size=VOCABULARY, max_length=64, width=16, num_layers=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


class Whole(nn.Module):
    """The same model, whose logits are all there."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits_BLC: Tensor = self.model(input_ids, attention_mask)["logits"].whole()
        return logits_BLC


def open_documents(folder: Path) -> tuple[Any, TokensInput]:
    """The source, and how models read it."""
    path = folder / "documents.parquet"
    pq.write_table(pa.table({"text": DOCUMENTS, "name": [f"doc-{n}" for n in range(len(DOCUMENTS))]}), path)
    options = softlab.SourceOptions(path=str(path), fields={"text": "text"})
    source = softlab.open_source(options, modality="tokens")
    return source, settle_input(TokensInput(tokenizer=str(save_tokenizer(folder / "tokenizer"))), source)


def dump_documents(out: Path, source: Any, input: TokensInput, *, teacher: nn.Module, **options: Any) -> softlab.Store:
    made = softlab.Teacher(module=teacher, name="small", arguments={}, input=input)
    whole: dict[str, Any] = {"device": softlab.DeviceOptions(name="cpu"), "batch_size": 3} | options
    softlab.dump_teacher(made, source, out, softlab.DumpOptions(**whole))
    return softlab.open_store(out)


def token_ids(text: str, input: TokensInput) -> list[int]:
    """As models with this input read it."""
    found = MODALITY.collate([MODALITY.decode(text)], input).inputs.named["input_ids"]
    return [int(token) for token in found[0]]


def small_llama(*, vocab_size: int = 384) -> Any:
    """Of transformers; its vocabulary is filled up."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocab_size,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                pad_token_id=None,
            )
        )
