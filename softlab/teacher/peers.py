"""The processes that share a dump, as torchrun starts them: each writes shards of its own.

They meet when the dump begins and when it ends, and between that none waits for another: one may be done hours before
the last. They meet in torchrun's key-value store. A process that waited in a collective operation would fail when
another one does, and hide that one's error behind its own; one that waits here is ended by torchrun.
"""

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch

from softlab.errors import SoftlabError, StoreMismatch
from softlab.manifest import StorePlan, differences, encode
from softlab.ranks import num_ranks, rank, shared_store
from softlab.shards import Shard
from softlab.store.folder import as_stored
from softlab.store.writer import StoreWriter, joining, writing
from softlab.teacher.job import DumpJob

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

POLL_S = 0.05
PART_CHARACTERS = 1 << 20
"""Of one value in the key-value store, which takes 8 MiB."""

_dumps = itertools.count()
"""Dumps of this process so far: all processes of a run make the same ones in the same order."""


class Peers:
    """This process among those that share a dump; without a key-value store it is alone."""

    def __init__(self, *, rank: int = 0, count: int = 1, store: "Store | None" = None) -> None:
        self.rank, self.count = rank, count
        self._store = store
        self._totals: Counter[str] = Counter()
        self._meetings = itertools.count()

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that settles, finishes and speaks."""
        return self.rank == 0

    def own(self, shards: Sequence[Shard]) -> list[Shard]:
        """This process's part of the shards that are pending; all must ask for the same ones. The same samples in every
        view, where there are enough of them, as their decoded images are kept."""
        parts = sorted({shard.part for shard in shards})
        if len(parts) < self.count:
            return list(shards[self.rank :: self.count])
        own = set(parts[self.rank :: self.count])
        return [shard for shard in shards if shard.part in own]

    def add(self, name: str, amount: int) -> int:
        """What all have added under this name by now."""
        if self._store is None:
            self._totals[name] += amount
            return self._totals[name]
        with _in_touch(self):
            return self._store.add(name, amount)

    def wait(self) -> None:
        """Until all are here, however long that takes."""
        name = f"meeting-{next(self._meetings)}"
        arrived = self.add(name, 1)
        while arrived < self.count:
            time.sleep(POLL_S)
            arrived = self.add(name, 0)

    def share(self, text: str) -> str:
        """The first one's text, for all."""
        if self._store is None:
            return text
        name = f"text-{next(self._meetings)}"
        with _in_touch(self):
            if self.is_first:
                parts = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)]
                for number, part in enumerate(parts):
                    self._store.set(f"{name}-{number}", part)
                self._store.set(name, str(len(parts)))
            while not self._store.check([name]):
                time.sleep(POLL_S)
            return "".join(self._store.get(f"{name}-{part}").decode() for part in range(int(self._store.get(name))))


def meet_peers(device: torch.device) -> Peers:
    """The processes that torchrun has started, each with its own device; a process of its own has none beside it."""
    if num_ranks() == 1:
        return Peers()
    from torch.distributed.distributed_c10d import PrefixStore

    if device.type == "cuda":
        torch.cuda.set_device(device)  # else page-locked memory would be the first GPU's business in every process
    store = PrefixStore(f"softlab/dump-{next(_dumps)}", shared_store())
    return Peers(rank=rank(), count=num_ranks(), store=store)


def agree_on(plan: StorePlan, peers: Peers) -> StorePlan:
    """The first one's plan, for all. Raises StoreMismatch in a process that would dump something else."""
    if peers.count == 1:
        return plan
    theirs = msgspec.json.decode(peers.share(encode(plan).decode()), type=StorePlan)
    # The outputs hold the step of a coding, which may depend on what the teacher gave on its own device.
    ours = msgspec.structs.replace(plan, outputs=theirs.outputs)
    changed = differences(as_stored(theirs), as_stored(ours))
    if changed:
        raise StoreMismatch(
            f"process {peers.rank + 1} of {peers.count} would dump something else than the first one: "
            f"{'; '.join(changed)}. Give all of them the same data and weights, as with --teacher-weights."
        )
    peers.wait()
    return theirs


@contextmanager
def writing_together(root: Path, job: DumpJob, peers: Peers) -> Iterator[StoreWriter]:
    """As `writing`: the first one starts the store or goes on with it, the others join; then all see the same shards
    pending."""
    if peers.is_first:
        with writing(
            root, job.plan, lets_others_join=peers.count > 1, recipe_N=job.recipe_N, expected=job.expected_samples
        ) as writer:
            peers.wait()
            peers.wait()
            yield writer
    else:
        peers.wait()
        with joining(root, job.plan, recipe_N=job.recipe_N) as writer:
            peers.wait()
            yield writer


@contextmanager
def _in_touch(peers: Peers) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise SoftlabError(
            f"process {peers.rank + 1} of {peers.count}: torchrun, which started it, can't be reached: "
            f"{str(error).partition(chr(10))[0]}. Shards that are finished are kept: run the same command again to go "
            f"on."
        ) from error
