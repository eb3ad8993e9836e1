"""What the tables of this folder share: rows of documents that a model reads, and of the stores about them."""

# Shape letters: R rows (tokens that have a next one), C classes.

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

import softlab
from softlab.labels.lazy_logits import LazyLogits
from softlab.modalities.inputs import Collated
from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from softlab.models.rows import logits_of
from softlab.sources.source import Source


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Some of a source as a model reads them."""

    samples: Sequence[int]
    read: Collated

    @property
    def next_tokens_R(self) -> Tensor:
        """int64, the text's own."""
        assert self.read.units is not None, "each token is a unit"
        assert self.read.units.targets_R is not None, "which tells the next one"
        return self.read.units.targets_R


def read(source: Source, samples: Sequence[int], input: TokensInput) -> Documents:
    texts = [MODALITY.decode({"": source.read(each).fields["text"]}) for each in samples]
    return Documents(samples=samples, read=MODALITY.collate(texts, input))


def rows_of(module: nn.Module, documents: Documents) -> Tensor:
    """float32 [R, C], the model's logits of all rows, on its device."""
    device, read = next(module.parameters()).device, documents.read
    rows = logits_of(module, read.inputs.to(device), device=device, autocast="none", counted=read.units).rows
    return rows.whole() if isinstance(rows, LazyLogits) else rows.float()


def kl_rows(teacher_RC: Tensor, student_RC: Tensor) -> Tensor:
    """float32 [R], nats, of whole distributions."""
    log_p_RC, log_q_RC = teacher_RC.log_softmax(dim=1), student_RC.log_softmax(dim=1)
    return (log_p_RC.exp() * (log_p_RC - log_q_RC)).sum(dim=1)


def dump(teacher: softlab.Teacher, source: Source, out: Path, **options: object) -> softlab.Store:
    """A store that is there stays. The options are those of a dump."""
    if not (out / "manifest.json").exists():
        device = softlab.DeviceOptions(name=next(teacher.module.parameters()).device.type)
        softlab.dump_teacher(teacher, source, out, softlab.DumpOptions(device=device, **options))  # type: ignore[arg-type]
    return softlab.open_store(out, cache=softlab.CacheOptions(max_bytes=0))


def bytes_a_token(store: softlab.Store, *, with_tokens: bool = False) -> float:
    """On disk, of all that shards hold of its rows: what was stored of each, which token it is, and how many there are.
    The tokens that the teacher has read are inputs, and are counted where they are asked for."""
    manifest = store.manifest
    assert store.units is not None, "each token has a row"
    files = [file for shard in manifest.shards for file in shard.files]
    outputs = [each for each in manifest.outputs if with_tokens or each is not manifest.tokens_read]
    places = tuple(f"{manifest.group_of(each)}/" for each in outputs)
    return sum(file.bytes for file in files if file.path.startswith(places)) / store.units.num_rows
