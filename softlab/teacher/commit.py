"""From the teacher's outputs to committed shards, on a thread beside the teacher's own work."""

# Shape letters: N rows in a shard, B rows in a batch, K entries kept, T temperatures.

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from softlab.errors import TeacherError
from softlab.labels.coding import LabelCoding
from softlab.labels.soft_labels import SoftLabels
from softlab.shards import Shard
from softlab.sources.source import Source
from softlab.store.statistics import measure
from softlab.store.writer import StoreWriter
from softlab.teacher.forward import OutputOnHost, TeacherOutput

MAX_SHARDS_IN_FLIGHT = 2
"""Finished by the teacher and not yet on disk: what bounds a dump's memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardOutput:
    """All batches of one shard, in order."""

    shard: Shard
    batches: Sequence[OutputOnHost]
    content_hashes: list[bytes]
    view_digests: list[int]


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


def commit_shard(
    output: ShardOutput,
    *,
    writer: StoreWriter,
    coding: LabelCoding,
    source: Source,
    targets_N: NDArray[np.int64] | None,
) -> int:
    """Encode and write one shard; its bytes on disk. Raises TeacherError naming the samples of values not finite."""
    batches = [batch.wait() for batch in output.batches]
    _check_finite(batches, output.shard, source)
    labels = _join(batches)
    arrays = coding.encode(labels)
    statistics = measure(
        labels,
        targets_N=None if targets_N is None else targets_N[output.shard.start : output.shard.stop],
        clipped_logits=coding.count_clipped(labels, arrays),
    )
    plan = writer.plan
    (classes,) = plan.classes
    fields = {f"{plan.group_of(classes)}/{name}": array for name, array in arrays.items()}
    for name, each in zip(batches[0].features, plan.values, strict=True):
        (field,) = plan.storage.fields_of(plan.group_of(each))
        fields[field.name] = torch.cat([batch.features[name] for batch in batches]).numpy()
    return writer.write(
        output.shard,
        arrays=fields,
        content_hashes=output.content_hashes,
        pixel_digests=output.view_digests,
        statistics={classes.name: statistics},
    )


def _join(batches: Sequence[TeacherOutput]) -> SoftLabels:
    labels = [batch.labels for batch in batches]
    return SoftLabels(
        class_ids_BK=torch.cat([each.class_ids_BK for each in labels]),
        logits_BK=torch.cat([each.logits_BK for each in labels]),
        log_tail_BT=torch.cat([each.log_tail_BT for each in labels]),
        max_logit_B=torch.cat([each.max_logit_B for each in labels]),
        temperatures=labels[0].temperatures,
        num_classes=labels[0].num_classes,
        head=labels[0].head,
    )


def _check_finite(batches: Sequence[TeacherOutput], shard: Shard, source: Source) -> None:
    bad = np.flatnonzero(~torch.cat([batch.is_finite_B for batch in batches]).numpy()) + shard.start
    if len(bad):
        names = ", ".join(repr(source.keys[index]) for index in bad[:5].tolist())
        raise TeacherError(
            f"the teacher's logits or float16 features are NaN or infinite for {len(bad):,} of {shard.num_rows:,} "
            f"samples, such as {names}. Check those inputs and the weights, or run with --autocast none. Shards "
            f"before this one are kept."
        )
