"""Files of weights that were changed, by chance or by somebody: the same model, or a refusal in a line."""

import io
import json
import pickle
import random
import zipfile
from pathlib import Path

import safetensors.torch
import torch

from tests.campaign.predictions import Harmful, change_bytes
from tests.campaign.trees import DOCUMENT_CHANGES

SUFFIXES = ("safetensors", "pt")
LENGTHS = (0, 1, 7, 2**20, 2**40, 2**63, 2**64 - 1)
TEXTS = (
    "\x1b[2J\x1b]0;owned\a",
    "a\nb\rc",
    "\0",
    "x" * 70_000,
    "[",
    "{}",
    "null",
    "[1]",
    "1e999",
    "\u202e",
    "os:system",
)


def make_weights(made: Path) -> None:
    """In {made}: those of a trained student, in each kind of file."""
    written = made / "validated/small/best.safetensors"
    for suffix in SUFFIXES:
        (made / f"weights-{suffix}").mkdir()
    (made / "weights-safetensors/w.safetensors").write_bytes(written.read_bytes())
    torch.save(safetensors.torch.load_file(written), made / "weights-pt/w.pt")


def change_weights(root: Path, chance: random.Random) -> str:
    """The one file of a folder is another one; what was done, in words."""
    (file,) = root.iterdir()
    if chance.random() < 0.5:
        return change_bytes(file, chance)
    return (_forge_header if file.suffix == ".safetensors" else _forge_pickle)(file, chance)


def _forge_header(file: Path, chance: random.Random) -> str:
    """What it says of its tensors, and the texts beside them."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    if chance.random() < 0.1:
        told = chance.choice(LENGTHS)
        file.write_bytes(told.to_bytes(8, "little") + header + rest)
        return f"header of {told} bytes"
    if chance.random() < 0.4:
        change = chance.choice(DOCUMENT_CHANGES)
        header, told_of = change(header, chance), change.__name__
    else:
        tree = json.loads(header)
        name = chance.choice([*tree["__metadata__"], "softlab.other"])
        tree["__metadata__"][name] = chance.choice(TEXTS)
        header, told_of = json.dumps(tree).encode(), f"{name} = {tree['__metadata__'][name][:20]!r}"
    file.write_bytes(len(header).to_bytes(8, "little") + header + rest)
    return told_of


def _forge_pickle(file: Path, chance: random.Random) -> str:
    """An archive without a wrong checksum, whose pickle is another one."""
    with zipfile.ZipFile(file) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    name = next(name for name in members if name.endswith("data.pkl"))
    data, what = bytearray(members[name]), chance.choice(("bytes", "bytes", "objects", "no tensors", "old"))
    if what == "bytes":
        for _ in range(chance.choice((1, 1, 5))):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif what == "objects":
        data = bytearray(pickle.dumps({"weight": Harmful()}))
    elif what == "no tensors":
        data = bytearray(pickle.dumps(chance.choice(([], {"state_dict": 3}, {"model": {"a": None}}, 3, "x"))))
    else:
        file.write_bytes(pickle.dumps({"weight": Harmful()}))
        return what
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for each, content in (members | {name: bytes(data)}).items():
            opened.writestr(each, content)
    file.write_bytes(archive.getvalue())
    return what
