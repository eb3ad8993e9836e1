"""What went wrong with shards of a dump under way: a file for each time that one failed, by whichever process.

STORE/commits/attempts/<shard>.<n>.json
"""

import itertools
import os
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass

import msgspec

from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.folder import COMMITS
from softlab.store.place import files_at
from softlab.store.shard_numbers import tell_numbers
from softlab.store.writer import StoreWriter

ATTEMPTS = f"{COMMITS}/attempts"
NAME = r"(view-[0-9]+-part-[0-9]+)\.([0-9]{1,9})\.json"
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
    for number in itertools.count(count_attempts(root)[shard.name]):
        if files_at(root).create(f"{ATTEMPTS}/{shard.name}.{number}.json", msgspec.json.encode(attempt)):
            return  # else another process has failed at the same shard this moment


def count_attempts(root: Place) -> Counter[str]:
    """How often shards have failed, by name."""
    return Counter({name: len(paths) for name, paths in _paths_by_shard(root).items()})


def find_failed(writer: StoreWriter) -> list[FailedShard]:
    """Those that have failed and aren't there, in the order of the grid."""
    paths = _paths_by_shard(writer.root)
    if not paths:
        return []
    names = [shard.name for shard in writer.own_shards]
    return [
        FailedShard(number=number, name=name, attempts=len(paths[name]), error=_last_error(writer.root, paths[name]))
        for number in writer.missing
        if (name := names[number]) in paths
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


def _paths_by_shard(root: Place) -> dict[str, list[str]]:
    """Of each shard in the order in which they were written."""
    found: dict[str, list[str]] = {}
    named = [(path, re.fullmatch(NAME, path.rpartition("/")[2])) for path in files_at(root).paths(ATTEMPTS)]
    numbered = [(int(match[2]), match[1], path) for path, match in named if match is not None]
    for _, name, path in sorted(numbered):
        found.setdefault(name, []).append(path)
    return found


def _last_error(root: Place, paths: list[str]) -> str:
    data = files_at(root).read(paths[-1])
    try:
        return "" if data is None else msgspec.json.decode(data, type=Attempt).error
    except ValueError:
        return "its error can't be read"
