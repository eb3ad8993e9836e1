"""The processes of a run, as torchrun or Slurm's srun starts them, and which of them this one is.

torchrun tells each process what it is in environment variables. They meet in torchrun's key-value store. A process that
waited in a collective operation would fail when another one does, and hide that one's error behind its own; one that
waits in the key-value store is ended by torchrun. Tasks of srun have no such store: each knows its number alone.
"""

import itertools
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from softlab.errors import SoftlabError

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store

POLL_S = 0.05
PART_CHARACTERS = 1 << 20
"""Of one value in the key-value store, which takes 8 MiB."""

FIRST_SPECIAL_STEP = 0xFFFF_FFF0
"""From here on Slurm numbers what isn't srun's: batch scripts, interactive shells."""

TELLING_TIMEOUT_S = 10.0
"""How long a process that fails tries to find out whether another one has failed before it."""

_joined: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
"""How often this process has joined others for each kind of run: all do so in the same order."""


class Ranks:
    """This process, number `rank` of `count`; without a key-value store it is alone."""

    def __init__(self, *, rank: int = 0, count: int = 1, store: "Store | None" = None) -> None:
        self.rank, self.count = rank, count
        self._store = store
        self._totals: Counter[str] = Counter()
        self._meetings = itertools.count()

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that settles, finishes and speaks, and writes what is written once."""
        return self.rank == 0

    def add(self, name: str, amount: int) -> int:
        """What all have added under this name by now."""
        if self._store is None:
            self._totals[name] += amount
            return self._totals[name]
        with self._in_touch():
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
        with self._in_touch():
            if self.is_first:
                parts = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)]
                for number, part in enumerate(parts):
                    self._store.set(f"{name}-{number}", part)
                self._store.set(name, str(len(parts)))
            while not self._store.check([name]):
                time.sleep(POLL_S)
            return "".join(self._store.get(f"{name}-{part}").decode() for part in range(int(self._store.get(name))))

    @property
    def key_value_store(self) -> "Store":
        """Of all ranks, where there are others."""
        assert self._store is not None, "of several"
        return self._store

    @contextmanager
    def _in_touch(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise SoftlabError(
                f"process {self.rank + 1} of {self.count}: torchrun, which started it, can't be reached: "
                f"{str(error).partition(chr(10))[0]}. What is finished is kept: run the same command again to go on."
            ) from error


ALONE = Ranks()


def join_ranks(run: str, device: "torch.device", *, group: int = 1) -> Ranks:
    """The processes that torchrun has started, each with its own device; a process of its own has none beside it. `run`
    says what they do together. Of each `group` of so many the first one calls this, for all of it."""
    if num_ranks() == group:
        return Ranks()
    import torch
    from torch.distributed.distributed_c10d import PrefixStore

    if device.type == "cuda":
        torch.cuda.set_device(device)  # else page-locked memory would be the first GPU's business in every process
    store = PrefixStore(f"softlab/{run}-{next(_joined[run])}", shared_store())
    return Ranks(rank=rank() // group, count=num_ranks() // group, store=store)


def srun_task() -> tuple[int, int] | None:
    """The number of this process among the tasks of its srun, and how many these are. None for a task that is alone,
    for a shell or a script that no srun has started, whatever was asked of Slurm for it, and under torchrun."""
    step = os.environ.get("SLURM_STEP_ID", "")
    if is_launched() or "RANK" in os.environ or not step.isdecimal() or int(step) >= FIRST_SPECIAL_STEP:
        return None
    count = int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("SLURM_NTASKS") or 1)
    return (int(os.environ.get("SLURM_PROCID", "0")), count) if count > 1 else None


def is_launched() -> bool:
    """Whether torchrun has started this process, be it alone."""
    return "LOCAL_RANK" in os.environ


def is_first_rank() -> bool:
    """Whether this process is the one that speaks."""
    return rank() == 0


def rank() -> int:
    """The number of this process in the run."""
    return int(os.environ.get("RANK", "0"))


def num_ranks() -> int:
    """Processes of the run, on all machines; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_rank() -> int:
    """The number of this process on its machine, and so of its GPU."""
    slurms = "0" if srun_task() is None else os.environ.get("SLURM_LOCALID", "0")
    return int(os.environ.get("LOCAL_RANK", slurms))


def num_local_ranks() -> int:
    """Processes of the run that share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def shared_store(*, timeout_s: float = 300) -> "Store":
    """The key-value store that all processes of the run can reach; torchrun holds it."""
    from torch.distributed.rendezvous import rendezvous

    store: Store
    store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
    return store


def is_first_to_fail() -> bool:
    """Whether this process, which fails, is the one to tell its error: the others' are the same, or follow from it."""
    if num_ranks() == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    try:
        return shared_store(timeout_s=TELLING_TIMEOUT_S).add("softlab/failures", 1) == 1
    except RuntimeError:  # torchrun is gone
        return True
