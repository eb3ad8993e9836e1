"""What the library says of options by their keys, with the flags of the command that was called."""

import re
import shlex
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from difflib import get_close_matches
from typing import Any

_FLAGS: ContextVar[Mapping[str, str]] = ContextVar("flags of the command")
_KEYS: ContextVar[Collection[str]] = ContextVar("keys of the command")

_MENTION = re.compile(r"`(?P<key>[a-z_]+(?:\.[a-z_]+)*)(?: = (?P<value>[^`]+))?`")


def say_flags(flags: Mapping[str, str], keys: Collection[str]) -> None:
    """From now on messages name these flags beside their keys, and `--set` beside the other keys."""
    _FLAGS.set(flags)
    _KEYS.set(keys)


def with_flags(message: str) -> str:
    """`run.epochs` becomes `run.epochs` (--epochs), and `check.subset = true` is followed by (--subset)."""
    return _MENTION.sub(lambda mention: mention[0] + _in_words(mention["key"], mention["value"]), message)


def _in_words(key: str, value: str | None) -> str:
    flag = _FLAGS.get({}).get(key)
    if flag is not None:
        return f" ({flag if value is None else _given(flag, value)})"
    if value is not None and key in _KEYS.get(()):
        return f" (--set {shlex.quote(f'{key}={value}')})"
    return ""


def _given(flag: str, value: str) -> str:
    if value in ("true", "false"):
        return flag if value == "true" else f"--no-{flag.removeprefix('--')}"
    values = value.strip("[]").split(", ") if value.startswith("[") else [value]
    return " ".join(f"{flag} {shlex.quote(each)}" for each in values)


def explain_flag(flag: str, kind: type[Any]) -> str:
    """What to write in place of a flag that the command of this recipe doesn't have."""
    from softlab.recipes.options import ANY_NAME, option_fields  # most commands have no recipe, and start without it
    from softlab.recipes.renamed import RENAMED

    flags: Mapping[str, str] = kind.flags
    keys = [option.key for option in option_fields(kind) if ANY_NAME not in option.key]
    name = flag.lstrip("-").replace("-", "_")
    before = {new for old, new in RENAMED.items() if old.partition(".")[2] == name}
    found = (
        [key for key in keys if key.replace(".", "_") == name]
        or [key for key in keys if key in before or key.rpartition(".")[2] == name]
        or [key for key in keys if key.startswith(f"{name}.")][:1]  # what a section is mostly about
    )
    if found:
        return f"Write {' or '.join(flags.get(key, f'--set {key}=VALUE') for key in found[:3])}."
    by_name = {key: key for key in keys} | {key.rpartition(".")[2]: key for key in keys}
    near = get_close_matches(flag, flags.values(), n=1, cutoff=0.7) or [
        f"--set {by_name[each]}=VALUE" for each in get_close_matches(name, by_name, n=1, cutoff=0.7)
    ]
    return f"Did you mean {near[0]}?" if near else "See `softlab options` for all of them."
