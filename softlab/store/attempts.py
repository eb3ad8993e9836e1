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
from pathlib import Path

import msgspec

from softlab.disk import create_file, read_whole
from softlab.errors import StoreBusy
from softlab.shards import Shard
from softlab.store.folder import COMMITS
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


def note_attempt(root: Path, shard: Shard, error: Exception) -> None:
    """Write down that a shard has failed."""
    text = f"{type(error).__name__}: {error}"[:MOST_CHARACTERS]
    attempt = Attempt(error=text, host=socket.gethostname(), pid=os.getpid(), at_s=time.time())
    for number in itertools.count(count_attempts(root)[shard.name]):
        try:
            create_file(root / ATTEMPTS / f"{shard.name}.{number}.json", msgspec.json.encode(attempt))
        except StoreBusy:  # another process has failed at the same shard this moment
            continue
        return


def count_attempts(root: Path) -> Counter[str]:
    """How often shards have failed, by name."""
    return Counter({name: len(files) for name, files in _files_by_shard(root).items()})


def find_failed(writer: StoreWriter) -> list[FailedShard]:
    """Those that have failed and aren't there, in the order of the grid."""
    files = _files_by_shard(writer.root)
    if not files:
        return []
    names = [shard.name for shard in writer.own_shards]
    return [
        FailedShard(number=number, name=name, attempts=len(files[name]), error=_last_error(files[name]))
        for number in writer.missing
        if (name := names[number]) in files
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


def _files_by_shard(root: Path) -> dict[str, list[Path]]:
    """Of each shard in the order in which they were written."""
    found: dict[str, list[Path]] = {}
    named = [(path, re.fullmatch(NAME, path.name)) for path in (root / ATTEMPTS).glob("*.json")]
    numbered = [(int(match[2]), match[1], path) for path, match in named if match is not None]
    for _, name, path in sorted(numbered):
        found.setdefault(name, []).append(path)
    return found


def _last_error(files: list[Path]) -> str:
    data = read_whole(files[-1])
    try:
        return "" if data is None else msgspec.json.decode(data, type=Attempt).error
    except ValueError:
        return "its error can't be read"
