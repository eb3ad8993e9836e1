"""Loader processes that have ended before their time, killed for want of memory for example."""

LOST_WORKER = "DataLoader worker (pid"
"""How torch's errors begin where one has."""


def find_lost_worker(error: BaseException) -> BaseException | None:
    """The error itself, or what it came from: torch raises it as soon as the process has ended, anywhere in the
    program, so in the middle of a model's forward pass too. None for an error of another kind."""
    found: BaseException | None = error
    while found is not None and not (isinstance(found, RuntimeError) and str(found).startswith(LOST_WORKER)):
        found = found.__cause__ or found.__context__
    return found
