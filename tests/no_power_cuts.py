"""No test cuts the power, so none waits for the disk: without this, `fsync` takes half the time of a small store.

The programs that tests start with `python -m softlab` do wait.
"""

import os


def do_not_wait(descriptor: int) -> None:
    """In the place of `os.fsync`: every process sees what is written at once, also when its writer is killed."""


os.fsync = do_not_wait  # type: ignore[assignment]
