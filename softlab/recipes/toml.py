"""TOML texts as tables: a whole file, one `KEY=VALUE` assignment, one value; and how two tables are merged."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from softlab.errors import InvalidOption


def read_toml(path: Path) -> dict[str, Any]:
    """A whole TOML file. Raises InvalidOption if it can't be read."""
    try:
        return _decode_toml(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidOption(
            f"{path}: can't read this recipe ({error.strerror}). Give the path of a TOML file."
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidOption(f"{path}: not valid TOML: {error}. Correct the recipe there.") from error


def parse_assignment(text: str) -> dict[str, Any]:
    """The table that `a.b=c` describes, c read by `parse_value`."""
    key, equals, value = text.partition("=")
    if equals:
        with suppress(msgspec.DecodeError):
            return _with_leaf(_decode_toml(f"{key} = 0"), parse_value(value))
    raise InvalidOption(f"--set {text}: not an assignment. Write --set KEY=VALUE, e.g. --set source.limit=100.")


def parse_value(text: str) -> Any:
    """A TOML value; what is not valid TOML is a bare string.

    So `10` is a number, `"10"` a string, `[1, 2]` a list, and `data/train` needs no quotes.
    """
    try:
        return _decode_toml(f"value = {text}")["value"]
    except msgspec.DecodeError:
        return text.strip()


def merged(table: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables: tables in them are merged key by key, of anything else the later one counts."""
    both = dict(table)
    for name, value in later.items():
        are_tables = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = merged(both[name], value) if are_tables else value
    return both


def _decode_toml(text: str) -> dict[str, Any]:
    return msgspec.toml.decode(text, type=dict[str, Any])


def _with_leaf(table: dict[str, Any], leaf: Any) -> dict[str, Any]:
    return {name: _with_leaf(inner, leaf) if isinstance(inner, dict) else leaf for name, inner in table.items()}
