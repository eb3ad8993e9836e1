"""How fast the rows of a store are read, against one np.take on a memory-mapped file of the same packed rows."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from softlab.bench.group_reads import Form, GroupReads, Order, Place
from softlab.bench.interleave import OnTurn, rates
from softlab.bench.on_disk import open_on_disk
from softlab.bench.plain_rows import MAX_PLAIN_BYTES, scratch_folder
from softlab.store.cache import CacheOptions

ROUNDS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadRate:
    """How fast the rows of one group are read in one way."""

    group: str
    """`labels`, or `features/NAME`."""

    order: Order
    """Of the rows, in batches of 256; block-shuffled: shards in random order, and the rows of each."""

    place: Place
    """Where they come from. `plain file` is np.take on a memory-mapped file of the same packed rows, the limit; `first
    touch` is a row cache being filled, from files that the system was asked to forget where it can be."""

    form: Form
    """packed: as they are handed to another process; tensors: ready for a loss."""

    rows_per_second: float
    """Median over rounds."""

    relative: float
    """To the plain file."""


def measure_reading(
    path: str | Path,
    *,
    rounds: int = ROUNDS,
    cache: CacheOptions | None = None,
    max_plain_bytes: int = MAX_PLAIN_BYTES,
    on_turn: OnTurn | None = None,
) -> list[ReadRate]:
    """The labels and each feature, of the store's first view, all ways of a group in turns.

    Only the first rows are read if a plain file of all would be larger than `max_plain_bytes`. The plain file and a row
    cache of its own lie in a temporary folder in the cache's; rows that were cached before are left as they are. What
    is larger than `cache` may be, when it is decoded, is read from compressed shards alone. Raises as `open_on_disk`,
    and StoreWriteFailed.
    """
    cache = cache or CacheOptions()
    store = open_on_disk(path, cache=cache)
    found: list[ReadRate] = []
    with scratch_folder(cache.folder) as folder:
        for group in ["labels", *(f"features/{name}" for name in store.feature_names)]:
            scratch = folder / group
            scratch.mkdir(parents=True)
            measured = GroupReads(store, group, scratch, max_bytes=cache.max_bytes, max_plain_bytes=max_plain_bytes)
            found += _measure(measured, rounds=rounds, on_turn=on_turn)
            shutil.rmtree(scratch, ignore_errors=True)
    return found


def _measure(group: GroupReads, *, rounds: int, on_turn: OnTurn | None) -> list[ReadRate]:
    ways = {", ".join(kind): (kind, turn) for kind, turn in group.turns().items()}
    found = rates(
        {name: turn.run for name, (_, turn) in ways.items()},
        rounds=rounds,
        before={name: turn.prepare for name, (_, turn) in ways.items()},
        on_turn=None if on_turn is None else lambda name, done, total: on_turn(f"{group.name}: {name}", done, total),
    )
    limit = next(iter(found.values()))
    return [
        ReadRate(
            group=group.name,
            order=order,
            place=place,
            form=form,
            rows_per_second=found[name],
            relative=found[name] / limit,
        )
        for name, ((order, place, form), _) in ways.items()
    ]
