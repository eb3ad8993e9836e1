"""How many threads are measured."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's, as in a loader's workers. A second one waits in a loop for a while once it has nothing to do, which a
    clock of the processor takes for work."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
