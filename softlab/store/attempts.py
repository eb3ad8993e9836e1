"""What went wrong with shards of a dump under way: a file for each time that one failed, by whichever process.

STORE/commits/attempts/<shard>.<n>.json
"""

import itertools
import os
import socket
import time
from dataclasses import dataclass

import msgspec

from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.folder import COMMITS
from softlab.store.place import files_at
from softlab.store.shard_numbers import tell_numbers
from softlab.store.writer import StoreWriter

ATTEMPTS = f"{COMMITS}/attempts"
MOST_ATTEMPTS = 3
"""A shard that has failed so often is set aside: it is tried again only if it is asked for alone."""

MOST_CHARACTERS = 1000
"""Of an error."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a shard failed."""

    error: str
    host: str
    pid: int
    at_s: float
    """By the clock of that machine, since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedShard:
    """One that has failed, and isn't there."""

    number: int
    name: str
    attempts: int
    error: str
    """The last one."""

    @property
    def is_set_aside(self) -> bool:
        return self.attempts >= MOST_ATTEMPTS


def note_attempt(root: Place, shard: Shard, error: Exception) -> None:
    """Write down that a shard has failed."""
    text = f"{type(error).__name__}: {error}"[:MOST_CHARACTERS]
    attempt = Attempt(error=text, host=socket.gethostname(), pid=os.getpid(), at_s=time.time())
    for number in itertools.count(count_attempts(root, shard)):
        if files_at(root).create(f"{ATTEMPTS}/{shard.name}.{number}.json", msgspec.json.encode(attempt)):
            return  # else another process has failed at the same shard this moment


def count_attempts(root: Place, shard: Shard) -> int:
    """How often a shard has failed."""
    return len(_by_shard(root).get(shard.name, ()))


def find_failed(writer: StoreWriter) -> list[FailedShard]:
    """Those that have failed and aren't there, in the order of the grid."""
    paths = _by_shard(writer.root)
    if not paths:
        return []
    shards = ((number, writer.own_shards[number]) for number in writer.missing)
    return [
        FailedShard(number=number, name=shard.name, attempts=len(own), error=_last_error(writer.root, own))
        for number, shard in shards
        if (own := paths.get(shard.name))
    ]


def tell_set_aside(failed: list[FailedShard]) -> str:
    """A sentence without its full stop: which are set aside, and the last error of the first; empty where none is."""
    aside = [each for each in failed if each.is_set_aside]
    if not aside:
        return ""
    first, numbers = aside[0], tell_numbers(each.number for each in aside)
    error = first.error.rstrip(".")
    if len(aside) == 1:
        return f"Shard {numbers} failed {first.attempts} times and is set aside: {error}"
    return f"Shards {numbers} failed {MOST_ATTEMPTS} times or more and are set aside; shard {first.number}: {error}"


def _by_shard(root: Place) -> dict[str, list[str]]:
    """Paths by the name of a shard, in the order in which they were written."""
    found: dict[str, list[str]] = {}
    for path in sorted(files_at(root).paths(ATTEMPTS), key=lambda path: int(path.split(".")[1])):
        found.setdefault(path.rpartition("/")[2].split(".")[0], []).append(path)
    return found


def _last_error(root: Place, paths: list[str]) -> str:
    data = files_at(root).read(paths[-1])
    try:
        return "" if data is None else msgspec.json.decode(data, type=Attempt).error
    except ValueError:
        return "its error can't be read"
