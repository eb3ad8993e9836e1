"""Start a command again, in several processes on this machine, as `torchrun --standalone` does."""

import json
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from softlab.errors import SoftlabError
from softlab.recipes.writing import given_values

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""On which torchrun ends its processes."""

PROGRAM = ("-P", "-m", "softlab")
"""Arguments of Python: as for the program itself, no file of the current folder takes the place of a package. A module
that a recipe names is found there all the same."""


def launch(command: str, recipe: "DataclassInstance", *, count: int) -> None:
    """Returns when all processes have ended well; where one fails, the others are ended.

    One that fails has told its error itself: this process then exits with the same code, and is silent. Raises
    SoftlabError for one that was killed, KeyboardInterrupt on Ctrl-C, which reaches all of them.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with _as_launcher(count), tempfile.TemporaryDirectory(prefix="softlab-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=str(uuid.uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, sys.executable)(*PROGRAM, command, *recipe_arguments(recipe))
        except ChildFailedError as error:
            _end_as({rank: failure.exitcode for rank, failure in error.failures.items()}, count=count)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            sys.exit(128 + error.sigval)


def recipe_arguments(recipe: "DataclassInstance") -> list[str]:
    """A recipe as arguments of its command."""
    return [
        argument for name, value in given_values(recipe).items() for argument in ("--set", f"{name}={_to_toml(value)}")
    ]


def _to_toml(value: Any) -> str:
    """In one line, as TOML's own writers don't."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_to_toml(key)} = {_to_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_to_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _end_as(codes: dict[int, int], *, count: int) -> None:
    for code in codes.values():
        if code > 0:
            sys.exit(code)
    ended = [(rank, code) for rank, code in codes.items() if code != -signal.SIGTERM]  # with that torchrun ends others
    rank, code = min(ended or codes.items())
    raise SoftlabError(
        f"process {rank + 1} of {count} was killed by {signal.Signals(-code).name}. Look whether the machine ran out "
        f"of memory; the same command goes on where it stopped."
    )


@contextmanager
def _as_launcher(count: int) -> Iterator[None]:
    """Processes that share a machine share its cores; torchrun's own log and its hold on signals end with them."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    is_given = "OMP_NUM_THREADS" in os.environ
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        if not is_given:
            del os.environ["OMP_NUM_THREADS"]
        for number, handler in handlers.items():
            signal.signal(number, handler)
