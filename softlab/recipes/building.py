"""Builds a command's nested frozen dataclasses from a TOML recipe, flags and `--set` assignments, or from one table.

Defaults < TOML < flags < `--set`: tables are merged key by key, anything else given later replaces what was there.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from softlab.errors import InvalidOption, suggest
from softlab.recipes.modality_sections import MODALITY, belongs_to_a_modality, chosen_section, run_modality
from softlab.recipes.options import default_of, is_section, join_key, named_section, option_fields, types_of
from softlab.recipes.toml import merged, parse_assignment, read_toml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Recipe = TypeVar("Recipe", bound="DataclassInstance")


def load_recipe(
    kind: type[Recipe],
    *,
    path: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    main_section: str = "",
) -> Recipe:
    """Build `kind` from the TOML file at `path`, `flags` (dotted key to value; None is not given) and `--set` texts.

    Raises InvalidOption for an unknown key, a value of the wrong type, a missing value, and whatever a section's own
    check refuses.
    """
    names = {field.key: field.flag for field in option_fields(kind, main_section=main_section)}
    given = [(str(path), read_toml(path))] if path else []
    given += [(names.get(key, key), _nested(key, value)) for key, value in (flags or {}).items() if value is not None]
    given += [(f"--set {text}", parse_assignment(text)) for text in assignments]
    whole: dict[str, Any] = functools.reduce(merged, (table for _, table in given), {})
    checked = [_checked_table(kind, table, whole=whole, run=run_modality(whole), where=where) for where, table in given]
    try:
        return _build(
            kind, functools.reduce(merged, checked, {}), base=MISSING, key="", flags=names, run=run_modality(whole)
        )
    except InvalidOption as error:
        if path:
            raise InvalidOption(f"{path}: {error}") from error
        raise


def recipe_from(kind: type[Recipe], table: Mapping[str, Any], *, where: str) -> Recipe:
    """Build `kind` from a table that was read already; raises as `load_recipe`. `where` names it in errors."""
    return _from_table(kind, table, base=MISSING, where=where)


def overridden(options: Recipe, table: Mapping[str, Any], *, where: str) -> Recipe:
    """The same options with those of a table instead, of which a table of named sections replaces the whole one; raises
    as `load_recipe`. `where` names the table in errors."""
    return _from_table(type(options), table, base=options, where=where)


def _nested(key: str, value: Any) -> dict[str, Any]:
    name, _, rest = key.partition(".")
    return {name: _nested(rest, value) if rest else value}


def _checked_table(
    kind: type[Any], table: dict[str, Any], *, whole: object, run: str | None, where: str, key: str = ""
) -> dict[str, Any]:
    """The table with its values converted. `whole` is the same table with all that flags and `--set` add, and `run` the
    modality of the run: they decide which class a section has."""
    types = types_of(kind) | ({MODALITY: str} if belongs_to_a_modality(kind) else {})
    for name in table:
        if name not in types:
            raise InvalidOption(f"{where}: unknown key {join_key(key, name)}. {suggest(name, types)}")
    return {
        name: _checked(types[name], value, whole=_below(whole, name), run=run, key=join_key(key, name), where=where)
        for name, value in table.items()
    }


def _checked(type_: Any, value: Any, *, whole: object, run: str | None, key: str, where: str) -> Any:
    if is_section(type_):
        table = _converted(dict[str, Any], value, key=key, where=where)
        section = chosen_section(type_, whole, default=run)
        return _checked_table(section, table, whole=whole, run=run, key=key, where=where)
    if named := named_section(type_):
        tables = _converted(dict[str, Any], value, key=key, where=where)
        return {
            name: _checked(named, table, whole=_below(whole, name), run=run, key=join_key(key, name), where=where)
            for name, table in tables.items()
        }
    return _converted(type_, value, key=key, where=where)


def _below(whole: object, name: str) -> object:
    return whole.get(name) if isinstance(whole, Mapping) else None


def _converted(type_: Any, value: Any, *, key: str, where: str) -> Any:
    try:
        return msgspec.convert(value, type_, dec_hook=_custom)
    except msgspec.ValidationError as error:
        raise InvalidOption(f"{where}: {key} is {value!r}, but must be {_expected(type_)}.") from error


def _custom(type_: type[Any], value: Any) -> Any:
    """The types that msgspec leaves to us: Path, and the object of `dict[str, object]`."""
    return value if isinstance(value, type_) else type_(value)


def _expected(type_: Any) -> str:
    arguments = get_args(type_)
    if get_origin(type_) is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if get_origin(type_) is tuple:
        return f"a list, each value {_expected(arguments[0])}"
    if get_origin(type_) is UnionType:
        return " or ".join(map(_expected, arguments))
    if get_origin(type_) is dict:
        return "a table" if arguments[1] in (Any, object) else f"a table, each value {_expected(arguments[1])}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path"}[type_]


def _from_table(kind: type[Recipe], table: Mapping[str, Any], *, base: Any, where: str) -> Recipe:
    run = run_modality(table)
    checked = _checked_table(kind, dict(table), whole=table, run=run, where=where)
    try:
        return _build(kind, checked, base=base, key="", flags={}, run=run)
    except InvalidOption as error:
        raise InvalidOption(f"{where}: {error}") from error


def _build(
    kind: type[Recipe], table: dict[str, Any], *, base: Any, key: str, flags: Mapping[str, str], run: str | None
) -> Recipe:
    types, values = types_of(kind), {}
    for field in fields(kind):
        at, type_, default = join_key(key, field.name), types[field.name], default_of(field, base)
        if is_section(type_) and (field.name in table or default is MISSING):
            below = table.get(field.name, {})
            section = chosen_section(type_, below, default=run)
            inner = MISSING if default is None or section is not type_ else default
            values[field.name] = _build(section, below, base=inner, key=at, flags=flags, run=run)
        elif field.name not in table:
            values[field.name] = _given(default, key=at, flags=flags)
        elif named := named_section(type_):
            values[field.name] = {
                name: _build(named, inner, base=MISSING, key=join_key(at, name), flags=flags, run=run)
                for name, inner in table[field.name].items()
            }
        else:
            values[field.name] = table[field.name]
    return kind(**values)


def _given(default: Any, *, key: str, flags: Mapping[str, str]) -> Any:
    if default is MISSING:
        prefixes = itertools.accumulate(key.split("."), join_key)  # a named section has one flag: student.small.model
        flag = next((flags[prefix] for prefix in prefixes if prefix in flags), None)
        raise InvalidOption(f"{key} is missing. Give {f'{flag}, or {key} in a recipe' if flag else 'it there'}.")
    return default
