"""JSON documents that were changed: by chance, or by somebody who wants to see what happens."""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from softlab.identity import digest_of
from softlab.manifest.document import SELF_BYTES, SELF_KEY

DEEP: Any = []
for _ in range(900):
    DEEP = [DEEP]

VALUES: tuple[Any, ...] = (
    *(None, True, False, "", [], {}, DEEP, 0, -1, 1, 2, 2**16, 2**31, 2**32 + 1, 2**63, 2**64, 10**400, -(10**18)),
    *(0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), float("-inf")),
    *("../../outside", "/etc/passwd", "a\0b", "\ud800", "x" * 70_000, "__import__('os').system('true')", "softmax"),
    *(["a", 1], {"": None}, [2**40], "zarr", "float32", "uint8", "2026-01-01T00:00:00Z", "0" * 64),
)
Path = tuple[str | int, ...]


def flip_bit(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return b"\0"
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def change_value(data: bytes, chance: random.Random) -> bytes:
    """Any value is another one, often of another type."""
    return _edit(data, chance, lambda value: chance.choice(VALUES))


def change_number(data: bytes, chance: random.Random) -> bytes:
    """A number is a little or much larger or smaller."""
    changes: tuple[Callable[[Any], Any], ...] = (
        *(lambda n: n + 1, lambda n: n - 1, lambda n: -n, lambda n: n * 2, lambda n: n * 10**6, lambda n: n + 10**15),
        *(lambda n: float(n), lambda n: n / 3, lambda n: str(n), lambda n: [n]),
    )
    is_number = lambda value: isinstance(value, int | float) and not isinstance(value, bool)  # noqa: E731
    return _edit(data, chance, chance.choice(changes), suits=is_number)


def swap_values(data: bytes, chance: random.Random) -> bytes:
    """A value stands at the place of another of its type."""
    tree = json.loads(data)
    path = chance.choice(_paths(tree))
    others = [other for other in _paths(tree) if type(_at(tree, other)) is type(_at(tree, path))]
    return _edit(data, chance, lambda _: _at(tree, chance.choice(others)), path=path)


def delete(data: bytes, chance: random.Random) -> bytes:
    """A key, or an item of a list, is gone."""
    tree = json.loads(data)
    *parents, last = chance.choice(_paths(tree))
    del _at(tree, tuple(parents))[last]
    return _write(tree)


def repeat(data: bytes, chance: random.Random) -> bytes:
    """A key is there twice, with another value, or an item of a list is."""
    lines = _write(json.loads(data)).decode().splitlines()
    own = [number for number, line in enumerate(lines) if line.rstrip().endswith(",")]
    if not own:
        return data + data
    number = chance.choice(own)
    name, found, _ = lines[number].partition(": ")
    other = f"{name}{found}{json.dumps(chance.choice(VALUES[:20]))}," if found else lines[number]
    return "\n".join([*lines[:number], other, *lines[number:]]).encode()


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))] if data else b"{"


def grow(data: bytes, chance: random.Random) -> bytes:
    return data + chance.choice([b"\0" * 100, b"}", data, b"\xff\xfe", b" " * 10_000])


FILE_CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "flip_bit": flip_bit,
    "cut": cut,
    "grow": grow,
    "emptied": lambda data, chance: b"",
    "zeros": lambda data, chance: bytes(len(data)),
    "other bytes": lambda data, chance: chance.randbytes(len(data)),
}
DOCUMENT_CHANGES = (flip_bit, change_value, change_number, swap_values, delete, repeat, cut, grow)


def vouch(manifest: bytes) -> bytes:
    """The same with its own hash made right, where it has one still."""
    at = manifest.find(SELF_KEY)
    if at < 0 or len(manifest) < at + SELF_BYTES:
        return manifest
    start = at + len(SELF_KEY)
    digest = digest_of(manifest[:at] + manifest[at + SELF_BYTES :]).encode()
    return manifest[:start] + digest + manifest[start + len(digest) :]


def _edit(
    data: bytes,
    chance: random.Random,
    change: Callable[[Any], Any],
    *,
    suits: Callable[[Any], bool] = lambda value: True,
    path: Path | None = None,
) -> bytes:
    tree = json.loads(data)
    found = [each for each in _paths(tree) if suits(_at(tree, each))]
    *parents, last = path or chance.choice(found or _paths(tree))
    parent = _at(tree, tuple(parents))
    parent[last] = change(parent[last]) if path or found else None
    return _write(tree)


def _write(tree: Any) -> bytes:
    return json.dumps(tree, indent=1).encode() + b"\n"


def _paths(tree: Any) -> list[Path]:
    return list(_walk(tree, ()))


def _walk(tree: Any, path: Path) -> Iterator[Path]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _walk(value, (*path, key))


def _at(tree: Any, path: Path) -> Any:
    for step in path:
        tree = tree[step]
    return tree
