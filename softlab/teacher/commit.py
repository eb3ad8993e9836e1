"""From the teacher's outputs to committed shards, on a thread beside the teacher's own work."""

# Shape letters: S samples of a shard, B samples in a batch, R rows of an output.

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import TeacherError
from softlab.labels.sampled_coding import SampledCoding
from softlab.labels.soft_labels import SoftLabels, join_labels
from softlab.labels.values_coding import encode_values
from softlab.manifest import ClassesRecord, PrecisionRecord, Statistics, StorePlan, TokensRecord, spans_of
from softlab.shards import Shard
from softlab.sources.source import Source
from softlab.store.format import Array
from softlab.store.label_coding import coding_of
from softlab.store.sampled_rows import place_arrays, place_tokens
from softlab.store.statistics import measure
from softlab.store.writer import StoreWriter
from softlab.teacher.forward import OutputOnHost, TeacherOutput

MAX_SHARDS_IN_FLIGHT = 2
"""Finished by the teacher and not yet on disk: what bounds a dump's memory."""

Targets = Mapping[str, NDArray[np.int64] | None]
"""Hard targets by output of kind `classes`; None where they count other classes, or rows are not samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardOutput:
    """All batches of one shard, in order."""

    shard: Shard
    batches: Sequence[OutputOnHost]
    content_hashes: list[bytes]
    view_digests: list[int]
    cut_off: int | None = None
    """Samples that were longer than the teacher's input; None where a sample has no length."""

    tokens: TokensRecord | None = None
    """None where samples aren't made of tokens."""

    @property
    def num_redone(self) -> int:
        """Samples that overflowed under autocast and were run again."""
        return sum(int(each.redone_B.sum()) for batch in self.batches if (each := batch.wait()).redone_B is not None)


class BackgroundCommits:
    """Commits shards in the order given; `put` waits while two are in flight, and raises what an earlier one raised.

    A context manager: on leaving, also through an error or Ctrl-C, shards that were put are still committed. Of several
    failures the first is raised.
    """

    def __init__(self, commit: Callable[[ShardOutput], None]) -> None:
        self._commit = commit
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="softlab-commit")
        self._in_flight: deque[Future[None]] = deque()

    def __enter__(self) -> "BackgroundCommits":
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown()
        if error_type is None:
            for commit in self._in_flight:
                commit.result()

    def put(self, output: ShardOutput) -> None:
        while len(self._in_flight) >= MAX_SHARDS_IN_FLIGHT:
            self._in_flight.popleft().result()
        self._in_flight.append(self._pool.submit(self._commit, output))


def commit_shard(output: ShardOutput, *, writer: StoreWriter, source: Source, targets: Targets) -> int:
    """Encode and write one shard; its bytes on disk, 0 where it was there already. Raises TeacherError naming the
    samples of values not finite."""
    batches, plan = [batch.wait() for batch in output.batches], writer.plan
    _check_finite(batches, output.shard, source, plan)
    arrays: dict[str, Array] = {}
    rows_S = _rows(batches)
    statistics: dict[str, Statistics] = {}
    for each in plan.classes:
        labels = join_labels([batch.labels[each.name] for batch in batches])
        encoded = coding_of(each).encode(labels)
        arrays |= place_arrays(plan, each, encoded, rows_S=rows_S)
        targets_S = _targets_of(each, batches, targets[each.name], output.shard)
        statistics[each.name] = _measure(plan, each, labels, encoded, targets_S)
    for value in plan.values:
        parts = [encode_values(batch.values[value.name], value.coding) for batch in batches]
        arrays |= {plan.array_of(value, name): np.concatenate([part[name] for part in parts]) for name in parts[0]}
    arrays |= _units(batches, plan) | _tokens(batches, plan)
    return writer.write(
        output.shard,
        arrays=arrays,
        content_hashes=output.content_hashes,
        pixel_digests=output.view_digests,
        statistics=statistics,
        rows_S=rows_S,
        precisions=_precisions(batches, output.shard, plan),
        cut_off=UNSET if output.cut_off is None else output.cut_off,
        tokens=UNSET if output.tokens is None else output.tokens,
    )


def _precisions(
    batches: Sequence[TeacherOutput], shard: Shard, plan: StorePlan
) -> tuple[PrecisionRecord, ...] | UnsetType:
    """Those that were run again in float32."""
    redone = [torch.zeros_like(each.is_finite_B) if each.redone_B is None else each.redone_B for each in batches]
    usual = plan.teacher.precision
    precision_S = np.where(torch.cat(redone).numpy(), "float32", usual)
    return spans_of(precision_S, start=shard.start, usual=usual)


def _measure(
    plan: StorePlan,
    output: ClassesRecord,
    labels: SoftLabels,
    encoded: Mapping[str, Array],
    targets_S: NDArray[np.int64] | None,
) -> Statistics:
    coding = coding_of(output)
    # What is in format 1 is settled; of sampled rows the loss's value hangs on the draw, not on the coding.
    is_told = output.coding.logits == "uint8" and plan.format_version > 1 and not output.is_sampled
    return measure(
        labels,
        targets_N=targets_S,
        clipped_logits=0 if isinstance(coding, SampledCoding) else coding.count_clipped(labels, encoded),
        stored=coding.decode(encoded) if is_told else None,
        encoded=encoded,
    )


def _targets_of(
    output: ClassesRecord,
    batches: Sequence[TeacherOutput],
    targets_N: NDArray[np.int64] | None,
    shard: Shard,
) -> NDArray[np.int64] | None:
    """Of the rows of a shard: hard targets of its samples, or, where these tell them for each row, those."""
    if not output.units:
        return None if targets_N is None else targets_N[shard.start : shard.stop]
    told = [batch.targets_R for batch in batches if batch.targets_R is not None]
    return torch.cat(told).numpy() if told else None


def _units(batches: Sequence[TeacherOutput], plan: StorePlan) -> dict[str, Array]:
    """Which position of its sample each row is, for each output with units."""
    units = [batch.units_R for batch in batches if batch.units_R is not None]
    if not units:
        return {}
    units_R = torch.cat(units).numpy()
    fields = [each for each in plan.storage.fields if each.short_name == "unit" and plan.output_of(each).units]
    return {each.name: units_R.astype(each.dtype) for each in fields}


def _first_bad_unit(batches: Sequence[TeacherOutput]) -> str:
    """In the middle of a sentence: the unit where it begins, of the first sample that has one."""
    for batch in batches:
        for name in sorted(batch.with_units & batch.labels.keys()):
            labels = batch.labels[name]
            told_R = labels.max_logit_B if labels.entropy_B is None else labels.entropy_B
            bad_R = (~told_R.isfinite()).nonzero()[:, 0]
            if len(bad_R) and batch.units_R is not None:
                return f" (of the first one from position {int(batch.units_R[bad_R[0]]):,} on)"
    return ""


def _tokens(batches: Sequence[TeacherOutput], plan: StorePlan) -> dict[str, Array]:
    """What the teacher has read, where that is stored."""
    if plan.tokens_read is None:
        return {}
    read = [batch.read for batch in batches if batch.read is not None]
    assert len(read) == len(batches), "the first ones were read so too"
    counts_S = torch.cat([each.counts_B for each in read]).numpy()
    return place_tokens(plan, plan.tokens_read, torch.cat([each.ids_E for each in read]).numpy(), counts_S=counts_S)


def _rows(batches: Sequence[TeacherOutput]) -> NDArray[np.int64] | None:
    counts = [batch.counts_B for batch in batches if batch.counts_B is not None]
    return torch.cat(counts).numpy() if counts else None


def _are_without_classes(batch: TeacherOutput) -> Tensor:
    """bool [S]: which samples have a row that is -inf in all classes; the largest of a row with NaN is NaN."""
    is_empty_S = torch.zeros_like(batch.is_finite_B)
    for name, labels in batch.labels.items():
        sample_R = torch.arange(len(is_empty_S))
        if name in batch.with_units and batch.counts_B is not None:
            sample_R = sample_R.repeat_interleave(batch.counts_B)
        is_empty_S[sample_R[labels.max_logit_B.isneginf()]] = True
    return is_empty_S


def _are_masked(batches: Sequence[TeacherOutput], plan: StorePlan) -> bool:
    """Whether all that isn't finite is -inf, in rows that have other classes: NaN and inf would be the largest."""
    if any(output.masked is True for output in plan.classes):
        return False
    labels = [each for batch in batches for each in batch.labels.values()]
    values = [each for batch in batches for each in batch.values.values()]
    return all(each.max_logit_B.isfinite().all() for each in labels) and all(each.isfinite().all() for each in values)


def _check_finite(batches: Sequence[TeacherOutput], shard: Shard, source: Source, plan: StorePlan) -> None:
    bad = np.flatnonzero(~torch.cat([batch.is_finite_B for batch in batches]).numpy()) + shard.start
    if not len(bad):
        return
    names = ", ".join(repr(source.keys[index]) for index in bad[:5].tolist())
    where = f"for {len(bad):,} of {shard.num_rows:,} samples, such as {names}"
    if all(bool((batch.is_finite_B | _are_without_classes(batch)).all()) for batch in batches):
        raise TeacherError(
            f"all classes are masked: the teacher's logits are -inf in each of them {where}. Mask fewer classes, or "
            f"leave such samples out. Shards before this one are kept."
        )
    if _are_masked(batches, plan):
        raise TeacherError(
            f"the teacher's logits are -inf in some classes {where}. If those are classes that a row doesn't have, "
            f"dump with `dump.masked = true` into another `out`: no loss counts them then. If not, check those inputs "
            f"and the weights. Shards before this one are kept."
        )
    is_float16 = any(output.coding == "float16" for output in plan.values)
    larger = " Values over 65,504 are kept with `dump.values_coding = float32`, in another `out`."
    raise TeacherError(
        f"the teacher's logits or values are NaN or infinite {where}{_first_bad_unit(batches)}. Check those inputs and "
        f"the weights."
        f"{larger if is_float16 else ''} Shards before this one are kept."
    )
