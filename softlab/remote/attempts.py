"""Trying again: where others write the same object at the same time, or a server is gone for a while."""

import random
import time
from collections.abc import Iterator

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
GIVE_UP_S = 60.0


def attempts(*, give_up_s: float | None = None) -> Iterator[None]:
    """One turn after another, with growing pauses of random length between them, until `give_up_s` are over."""
    end, pause_s = time.monotonic() + (GIVE_UP_S if give_up_s is None else give_up_s), FIRST_PAUSE_S
    yield
    while time.monotonic() < end:
        time.sleep(pause_s * random.uniform(0.5, 1.5))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        yield
