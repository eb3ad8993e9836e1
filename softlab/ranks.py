"""Which process of a run this one is: torchrun tells each of those that it starts, in environment variables."""

import os
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

TELLING_TIMEOUT_S = 10.0
"""How long a process that fails tries to find out whether another one has failed before it."""


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
    return int(os.environ.get("LOCAL_RANK", "0"))


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
