"""A recipe as a commented TOML file: what is known is filled in, the rest of a section stands there as a comment."""

import textwrap
from collections.abc import Mapping
from dataclasses import MISSING
from typing import Any

import msgspec

from softlab.recipes.options import ANY_NAME, OptionField, option_fields

WIDTH = 100


class Draft:
    """Keys of a recipe with their values, and why they have them."""

    def __init__(self, kind: type[Any], *, title: str) -> None:
        self._options = {option.key: option for option in option_fields(kind)}
        self._title = title
        self._values: dict[str, tuple[Any, str]] = {}
        self._offers: dict[str, Any] = {}

    def fill(self, key: str, value: Any, why: str = "") -> None:
        """An option that the recipe has; `why` is said beside it."""
        assert self._option(key) is not None, key
        self._values[key] = (value, why)

    def offer(self, key: str, value: Any) -> None:
        """An option that stands there as a comment, with its text."""
        assert self._option(key) is not None, key
        self._offers[key] = value

    def text(self) -> str:
        """The TOML file."""
        keys = [*self._values, *(key for key in self._offers if key not in self._values)]
        sections = list(dict.fromkeys(key.rpartition(".")[0] for key in keys))
        lines = [f"# {line}" for line in textwrap.wrap(self._title, WIDTH)]
        for section in sorted(sections, key=lambda name: name != ""):  # keys without a section come first in TOML
            own = [key for key in keys if key.rpartition(".")[0] == section]
            is_given = any(key in self._values for key in own)
            lines += ["", f"[{section}]" if is_given else f"# [{section}]"] if section else [""]
            for key in own:
                lines += self._lines(key)
        return "\n".join(lines) + "\n"

    def _lines(self, key: str) -> list[str]:
        option = self._option(key)
        assert option is not None, "checked when it was given"
        name = key.rpartition(".")[2]
        if key in self._values:
            value, why = self._values[key]
            return [f"{name} = {_to_toml(value)}" + (f"  # {why}" if why else "")]
        text = option.help + ("" if option.default in (None, MISSING, (), {}) else f" (default: {option.default})")
        return [*(f"# {line}" for line in textwrap.wrap(text, WIDTH)), f"# {name} = {_to_toml(self._offers[key])}"]

    def _option(self, key: str) -> OptionField | None:
        """That of a named section is known under `student.NAME.model`."""
        first, *rest = key.split(".")
        named = ".".join([first, ANY_NAME, *rest[1:]])
        return self._options.get(key) or self._options.get(named)


def _to_toml(value: Any) -> str:
    """In one line, as TOML's own writers don't."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_to_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_to_toml, value)) + "]"
    return msgspec.json.encode(str(value) if not isinstance(value, bool | int | float | str) else value).decode()
