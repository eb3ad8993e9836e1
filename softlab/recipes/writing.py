"""A recipe as a table again, and as a TOML file."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from softlab.modalities.modality import DEFAULT_MODALITY
from softlab.recipes.modality_sections import MODALITY, belongs_to_a_modality
from softlab.recipes.options import NAME, OVER_RUN, default_of, key_of, keyed_fields

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


WIDTH = 100


def write_recipe(path: Path, recipe: "DataclassInstance", *, comments: Sequence[str] = ()) -> None:
    """A TOML file that `load_recipe` reads as this recipe, with comments above it. TOML has no null: a None where
    another value is the default, or is what a student's section begins from, can't be written."""
    above = "".join(f"# {line}\n" for comment in comments for line in textwrap.wrap(comment, WIDTH))
    path.write_bytes(above.encode() + msgspec.toml.encode(given_values(recipe)))


def given_values(value: Any, *, begins_from_run: bool = False) -> Any:
    """Of a recipe the table that describes it, of numbers, strings, lists and tables.

    A section that begins from the recipe's says what is empty too, or else it would have the recipe's.
    """
    if is_dataclass(value) and not isinstance(value, type):
        inner = {field: getattr(value, field.name) for field in keyed_fields(type(value))}
        given = {field: each for field, each in inner.items() if not _is_left_out(field, each, begins_from_run)}
        table = {
            key_of(field): given_values(each, begins_from_run=OVER_RUN in field.metadata)
            for field, each in given.items()
        }
        return _which(value) | table
    if isinstance(value, Mapping):
        return {name: given_values(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [given_values(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _which(value: Any) -> dict[str, str]:
    """What a section says of its class: another modality than images, or the name of a loss."""
    if _is_of_another_modality(value):
        return {MODALITY: getattr(value, MODALITY)}
    is_choice = isinstance(getattr(type(value), NAME, None), str)
    return {NAME: getattr(value, NAME)} if is_choice else {}


def _is_of_another_modality(value: object) -> bool:
    return belongs_to_a_modality(type(value)) and getattr(value, MODALITY) != DEFAULT_MODALITY


def _is_left_out(field: Field[Any], value: Any, begins_from_run: bool) -> bool:
    return value is None or (not begins_from_run and value in ((), {}) and value == default_of(field, MISSING))
