"""What weights that softlab has written say of themselves: the input that they are for, their classes, their recipe."""

from pathlib import Path
from typing import Any

import msgspec
import safetensors
from msgspec import Struct

from softlab.errors import ModelError
from softlab.identity import digest_of
from softlab.manifest import InputRecord

ENTRY, HASH_ENTRY = "softlab.about", "softlab.about_blake3"


class AboutWeights(Struct, frozen=True, kw_only=True):
    """Of one model."""

    input: InputRecord
    class_names: tuple[str, ...] | None
    recipe: dict[str, Any]
    """How it was trained: losses, optimizer, seeds and the digests of its stores."""


def as_metadata(about: AboutWeights) -> dict[str, str]:
    """Entries of a .safetensors file."""
    text = msgspec.json.encode(about)
    return {ENTRY: text.decode(), HASH_ENTRY: digest_of(text)}


def read_about(path: Path) -> AboutWeights | None:
    """None of a file that says nothing. Raises ModelError for one that says something else than was written."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (OSError, safetensors.SafetensorError):  # no such file, or a damaged one: loading the weights tells
        return None
    if ENTRY not in metadata:
        return None
    text = metadata[ENTRY].encode()
    try:
        if metadata.get(HASH_ENTRY) != digest_of(text):
            raise ValueError("not what was written")
        return msgspec.json.decode(text, type=AboutWeights)
    except ValueError as error:
        raise ModelError(
            f"{path}: what it says of its input is damaged ({error}). Get the file back from a copy, or train again "
            f"with `log.resume = no`."
        ) from error
