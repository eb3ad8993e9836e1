"""A dump that several processes share: each writes shards of its own.

They meet when the dump begins and when it ends. Between that none waits for another: one may be done hours before the
last.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from softlab.errors import DamagedShards, StoreMismatch
from softlab.manifest import StorePlan, differences, encode, tell_differences
from softlab.ranks import Ranks
from softlab.shards import Shard
from softlab.store.access import joining, writing
from softlab.store.folder import as_stored
from softlab.store.writer import StoreWriter, tell_shards
from softlab.teacher.job import DumpJob
from softlab.teacher.shares import share_of


def own_shards(shards: Sequence[Shard], ranks: Ranks) -> list[Shard]:
    """This process's part of the pending shards, which are the same for all."""
    return share_of(shards, index=ranks.rank, count=ranks.count)


def plan_of_first(ranks: Ranks) -> StorePlan | None:
    """What the first one has planned, for the others to plan by; None for the first one itself."""
    return None if ranks.is_first else msgspec.json.decode(ranks.share(""), type=StorePlan)


def agree_on(plan: StorePlan, theirs: StorePlan | None, ranks: Ranks) -> None:
    """All have the plan of the first one, which is `theirs` to the others. Raises StoreMismatch in a process that would
    dump something else."""
    if ranks.count == 1:
        return
    if theirs is None:
        ranks.share(encode(plan).decode())
    else:
        changed = differences(as_stored(theirs), as_stored(plan))
        if changed:
            raise StoreMismatch(
                f"process {ranks.rank + 1} of {ranks.count} would dump something else than the first one: "
                f"{tell_differences(changed)}. Give all of them the same options, data and weights, as with "
                f"`teacher.weights`."
            )
    ranks.wait()


def tell_damaged(writer: StoreWriter) -> None:
    """Warns with DamagedShards, once of each."""
    if writer.damaged:
        anew = "is" if len(writer.damaged) == 1 else "are"
        warnings.warn(
            f"{writer.root}: {tell_shards(writer.damaged)}, and {anew} computed anew; the others stay",
            DamagedShards,
            stacklevel=3,
        )
        writer.damaged.clear()


@contextmanager
def writing_together(job: DumpJob, ranks: Ranks) -> Iterator[StoreWriter]:
    """As `writing`: the first one starts the store or goes on with it, the others join; then all see the same shards
    pending."""
    if ranks.is_first:
        with writing(
            job.out,
            job.plan,
            lets_others_join=ranks.count > 1,
            recipe_N=job.recipe_N,
            expected=job.expected_samples,
            find_staying=job.find_staying,
        ) as writer:
            writer.check_written(every_file=False)
            tell_damaged(writer)
            ranks.wait()
            ranks.wait()
            yield writer
    else:
        ranks.wait()
        with joining(job.out, job.plan, recipe_N=job.recipe_N) as writer:
            ranks.wait()
            yield writer
