"""What the tables of this folder share: rows of documents that a model reads, and of the stores about them."""

# Shape letters: R rows (tokens that have a next one), C classes.

from collections.abc import Sequence
from pathlib import Path

import torch
from softlab.labels.lazy_logits import LazyLogits
from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from torch import Tensor, nn

import softlab
from softlab.modalities.inputs import Collated
from softlab.models.rows import logits_of
from softlab.sources.source import Source

CPU = torch.device("cpu")


def read(source: Source, samples: Sequence[int], input: TokensInput) -> Collated:
    """What a model is given for some documents; its units tell the rows, and the token that follows each."""
    return MODALITY.collate([MODALITY.decode({"": source.read(each).fields["text"]}) for each in samples], input)


def rows_of(module: nn.Module, read: Collated) -> Tensor:
    """float32 [R, C], the model's logits of all rows."""
    rows = logits_of(module, read.inputs, device=CPU, autocast="none", counted=read.units).rows
    return rows.whole() if isinstance(rows, LazyLogits) else rows.float()


def next_tokens(read: Collated) -> Tensor:
    """int64 [R], the text's own."""
    assert read.units is not None, "each token is a unit"
    assert read.units.targets_R is not None, "which tells the next one"
    return read.units.targets_R


def kl_rows(teacher_RC: Tensor, student_RC: Tensor) -> Tensor:
    """float32 [R], nats, of whole distributions."""
    log_p_RC, log_q_RC = teacher_RC.log_softmax(dim=1), student_RC.log_softmax(dim=1)
    return (log_p_RC.exp() * (log_p_RC - log_q_RC)).sum(dim=1)


def dump(teacher: softlab.Teacher, source: Source, out: Path, options: softlab.DumpOptions) -> softlab.Store:
    """A store that is there stays."""
    if not (out / "manifest.json").exists():
        softlab.dump_teacher(teacher, source, out, options)
    return softlab.open_store(out, cache=softlab.CacheOptions(max_bytes=0))


def bytes_a_token(store: softlab.Store) -> float:
    """On disk, of all that shards hold: rows, which token each is, and how many a document has."""
    assert store.units is not None, "each token has a row"
    return sum(file.bytes for shard in store.manifest.shards for file in shard.files) / store.units.num_rows
