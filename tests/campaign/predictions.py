"""Files of predictions that were changed, by chance or by somebody: imported as they then are, or refused in a line."""

import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from softlab.store.cache import CacheOptions
from softlab.store.export import export_targets
from softlab.store.reader import open_store
from tests.campaign.forged import TABLE_CHANGES, WAYS
from tests.campaign.trees import DOCUMENT_CHANGES, FILE_CHANGES

SUFFIXES = ("npz", "parquet", "csv", "jsonl")
CLAIMS = (0, -1, 1, 2**31, 2**63 - 1, 10**30)
CELLS = ("", "nan", "-inf", "1e999", "9" * 400, "x" * 70_000, "\0", "\x1b[2J", '"', "1,1", "a\nb", "2026-01-01")


class Harmful:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("true",)


def make_predictions(made: Path) -> None:
    """In {made}: the probabilities of a store, in each kind of file."""
    store = open_store(made / "two", cache=CacheOptions(max_bytes=0))
    for suffix in SUFFIXES[:3]:
        export_targets(store, predictions_file(made, suffix))
    table = pq.read_table(predictions_file(made, "parquet"))
    _write_lines(predictions_file(made, "jsonl"), table)


def predictions_file(made: Path, suffix: str) -> Path:
    folder = made / f"predictions-{suffix}"
    folder.mkdir(exist_ok=True)
    return folder / f"p.{suffix}"


def change_predictions(root: Path, chance: random.Random) -> str:
    """The one file of a folder is another one; what was done, in words."""
    (file,) = root.iterdir()
    if chance.random() < 0.5:
        return change_bytes(file, chance)
    forge = {".npz": _forge_npz, ".parquet": _forge_parquet, ".csv": _forge_csv, ".jsonl": _forge_jsonl}[file.suffix]
    return forge(file, chance)


def change_bytes(file: Path, chance: random.Random) -> str:
    """By chance, whatever kind of file it is."""
    name = chance.choice([*FILE_CHANGES, *FILE_CHANGES, "exchanged", "link", "folder", "pipe"])
    if name in FILE_CHANGES:
        file.write_bytes(FILE_CHANGES[name](file.read_bytes(), chance))
    elif name == "exchanged":
        file.write_bytes(_exchange(file.read_bytes(), chance))
    else:
        file.unlink()
        make: dict[str, Callable[[], object]] = {
            "link": lambda: file.symlink_to(chance.choice(("/dev/zero", "/etc/passwd", file.name))),
            "folder": file.mkdir,
            "pipe": lambda: os.mkfifo(file),
        }
        make[name]()
    return name


def _exchange(data: bytes, chance: random.Random) -> bytes:
    """Two pieces of a file stand at each other's place."""
    size = chance.choice((1, 4, 64, 512))
    first, second = (chance.randrange(max(len(data) - size, 1)) for _ in range(2))
    changed = bytearray(data)
    changed[first : first + size], changed[second : second + size] = (
        data[second : second + size],
        data[first : first + size],
    )
    return bytes(changed)


def _forge_npz(file: Path, chance: random.Random) -> str:
    """An archive without a wrong checksum, one of whose arrays is another one."""
    with zipfile.ZipFile(file) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    name, what = chance.choice(list(members)), chance.choice(("bytes", "claim", "objects", "other type", "lost", "new"))
    data = bytearray(members[name])
    if what == "bytes":
        for _ in range(chance.choice((1, 1, 5))):
            data[chance.randrange(min(len(data), chance.choice((128, len(data)))))] = chance.randrange(256)
    elif what == "claim":
        data = bytearray(data.replace(b"(12", f"({chance.choice(CLAIMS)}".encode(), 1))
    elif what == "objects":
        data = bytearray(_npy(np.array([Harmful()] * 12, dtype=object)))
    elif what == "other type":
        kind = chance.choice(("U1", "S8", "?", "M8[s]", "c16", "f2", "V3"))
        data = bytearray(_npy(np.zeros(np.load(io.BytesIO(data)).shape, dtype=kind)))
    members |= {"content_hash.npy" if what == "new" else name: bytes(data)}
    with zipfile.ZipFile(file, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as opened:
        for each, content in members.items():
            if what != "lost" or each != name:
                opened.writestr(each, content)
    return f"{what} of {name}"


def _npy(array: Any) -> bytes:
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def _forge_parquet(file: Path, chance: random.Random) -> str:
    """Another table, or bytes of pages and of the footer, which is what Arrow believes."""
    data = bytearray(file.read_bytes())
    if chance.random() < 0.5:
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(len(data)) if chance.random() < 0.5 else -chance.randint(1, min(len(data), 900))
            data[at] = chance.choice((data[at] ^ 1 << chance.randrange(8), 0, 255, chance.randrange(256)))
        file.write_bytes(data)
        return "bytes"
    table, change = pq.read_table(file), chance.choice(TABLE_CHANGES)
    try:
        pq.write_table(change(table, chance), file, **chance.choice(WAYS))
    except (pa.ArrowException, ValueError, OverflowError, TypeError):
        pq.write_table(table, file)  # there is no such table
    return change.__name__


def _forge_csv(file: Path, chance: random.Random) -> str:
    lines = file.read_text().split("\n")
    row = chance.choice((0, chance.randrange(len(lines))))
    cells = lines[row].split(",")
    at, cell = chance.randrange(len(cells)), chance.choice((*CELLS, *cells))
    lines[row] = ",".join([*cells[:at], cell, *cells[at + chance.choice((0, 1, 1, 1)) :]])
    file.write_text("\n".join(lines), encoding=chance.choice(("utf-8", "utf-8", "utf-16")))
    return f"cell {cell[:20]!r} in line {row + 1}"


def _forge_jsonl(file: Path, chance: random.Random) -> str:
    lines = file.read_bytes().splitlines()
    row, change = chance.randrange(len(lines)), chance.choice(DOCUMENT_CHANGES)
    lines[row] = b" ".join(change(lines[row], chance).splitlines())
    file.write_bytes(b"\n".join(lines))
    return f"{change.__name__} in line {row + 1}"


def _write_lines(file: Path, table: Any) -> None:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
