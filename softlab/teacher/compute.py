"""What the teacher gives for shards, in batches that never cross them."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TypeVar

from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import in_sequence
from softlab.manifest import TokensRecord
from softlab.shards import Shard
from softlab.teacher.commit import ShardOutput
from softlab.teacher.forward import OutputOnHost, Run
from softlab.teacher.options import DumpOptions
from softlab.teacher.overflow import run_batches
from softlab.teacher.selections import Selections

Counted = TypeVar("Counted", int, TokensRecord)

OnBatch = Callable[[int], None]
"""Called with the number of samples that were computed."""


def compute(
    run: Run,
    aligned: Aligned,
    selections: Selections,
    shards: Sequence[Shard],
    *,
    options: DumpOptions,
    on_batch: OnBatch | None = None,
) -> Generator[ShardOutput, None, None]:
    """The teacher's output for each shard; copies to the host are under way. Batches never cross shards: a shard that
    is redone after a crash is computed from the same batches, to the same bits."""
    for shard, batches in _by_shard(run, aligned, shards, options):
        outputs: list[OutputOnHost] = []
        hashes: list[bytes] = []
        digests: list[int] = []
        cut_off: int | None = None
        tokens: TokensRecord | None = None
        for batch, output in run_batches(run, batches, selections=selections):
            outputs.append(output)
            hashes += batch.content_hashes
            digests += batch.view_digests
            for each in batch.inputs:
                cut_off, tokens = _added(cut_off, each.cut_off), _added(tokens, each.tokens)
            if on_batch is not None:
                on_batch(len(batch))
        yield ShardOutput(
            shard=shard,
            batches=outputs,
            content_hashes=hashes,
            view_digests=digests,
            cut_off=cut_off,
            tokens=tokens,
        )


def _by_shard(
    run: Run, aligned: Aligned, shards: Sequence[Shard], options: DumpOptions
) -> Iterator[tuple[Shard, Iterator[Batch]]]:
    size = options.batch_size
    order = (
        rows for shard in shards for rows in in_sequence(shard.start, shard.stop, batch_size=size, view=shard.view)
    )
    several_views = len({shard.view for shard in shards}) > 1
    loader = BatchLoader(
        aligned, device=run.device, options=LoaderOptions(workers=options.device.workers), keep_decoded=several_views
    )
    with closing(loader.load(order)) as batches:
        for shard in shards:
            yield shard, islice(batches, -(-shard.num_rows // size))


def _added(total: Counted | None, found: Counted | None) -> Counted | None:
    """Their sum; None where neither is known."""
    if total is None or found is None:
        return found if total is None else total
    return total + found
