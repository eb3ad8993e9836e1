"""What Python, torch and others raise where a process may have no more memory, in one line."""

from softlab.loading.lost_worker import find_lost_worker

SIGNS = (
    "failed to map segment",  # a shared library
    "cannot map zero-fill pages",
    "cannot allocate memory",
    "can't allocate memory",
    "can't start new thread",  # whose stack is 8 MB of address space
    "resource temporarily unavailable",
    "not enough memory",
    "unable to allocate",
    "malloc of size",
)
"""In the text of an error, whatever its class is."""


def explain_no_memory(error: BaseException) -> str | None:
    """None for an error of another kind."""
    found = _find(error)
    if found is None:
        return _explain_lost_worker(error)
    reason = str(found).partition("\n")[0] or "MemoryError"
    return (
        f"no more memory for this process: {reason}. Raise its limit (`ulimit -v` shows it in KB), end other programs, "
        f"or use smaller batches and fewer workers; what was finished is kept, and the same command goes on."
    )


def _explain_lost_worker(error: BaseException) -> str | None:
    found = find_lost_worker(error)
    if found is None:
        return None
    reason = str(found).partition("\n")[0].partition(". ")[0]
    return (
        f"{reason.rstrip('.')}. Look whether the machine ran out of memory, or /dev/shm of room; say fewer "
        f"`device.workers` (--workers), or 0 to load without. What was finished is kept, and the same command goes on."
    )


def _find(error: BaseException) -> BaseException | None:
    """The error itself, or what it came from: a module whose import was broken off raises another one."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, MemoryError) or any(sign in str(found).lower() for sign in SIGNS):
            return found
        found = found.__cause__ or found.__context__
    return None
