"""Builds a command's nested frozen dataclasses from a TOML recipe, flags and `--set` assignments, or from one table.

Defaults < TOML < flags < `--set`: tables are merged key by key, anything else given later replaces what was there.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from softlab.errors import InvalidOption, suggest
from softlab.recipes.modality_sections import MODALITY, belongs_to_a_modality, chosen_section, run_modality
from softlab.recipes.options import (
    ANY_NAME,
    NAME,
    OVER_RUN,
    default_of,
    is_section,
    join_key,
    key_of,
    keyed_fields,
    named_section,
    option_fields,
    section_choices,
    types_of,
)
from softlab.recipes.renamed import renamed
from softlab.recipes.toml import merged, parse_assignment, read_toml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Recipe = TypeVar("Recipe", bound="DataclassInstance")


def load_recipe(
    kind: type[Recipe],
    *,
    path: Path | None = None,
    flags: Mapping[str, tuple[str, Any]] | None = None,
    assignments: Sequence[str] = (),
) -> Recipe:
    """Build `kind` from the TOML file at `path`, `flags` (dotted key to the flag and its value; None is not given) and
    `--set` texts.

    Raises InvalidOption for an unknown key, a value of the wrong type, a missing value, and whatever a section's own
    check refuses.
    """
    given = [(str(path), read_toml(path))] if path else []
    given += [(flag, _nested(key, value)) for key, (flag, value) in (flags or {}).items() if value is not None]
    given += [(f"--set {text}", parse_assignment(text)) for text in assignments]
    whole: dict[str, Any] = functools.reduce(merged, (table for _, table in given), {})
    place = _Place(kind=kind, root=whole, table=whole)
    checked = [_checked_table(kind, table, place=replace(place, where=where)) for where, table in given]
    try:
        return _build_whole(kind, functools.reduce(merged, checked, {}), place)
    except InvalidOption as error:
        if path:
            raise InvalidOption(f"{path}: {error}") from error
        raise


def recipe_from(kind: type[Recipe], table: Mapping[str, Any], *, where: str) -> Recipe:
    """Build `kind` from a table that was read already; raises as `load_recipe`. `where` names it in errors."""
    place = _Place(kind=kind, root=dict(table), table=table, where=where)
    checked = _checked_table(kind, dict(table), place=place)
    try:
        return _build_whole(kind, checked, place)
    except InvalidOption as error:
        raise InvalidOption(f"{where}: {error}") from error


def _nested(key: str, value: Any) -> dict[str, Any]:
    name, _, rest = key.partition(".")
    return {name: _nested(rest, value) if rest else value}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where in a recipe something stands, with all that the recipe says: that decides which class a section has."""

    kind: type[Any]
    """Of the whole recipe."""

    root: Mapping[str, Any]
    """All that the recipe says, in TOML, flags and `--set`."""

    table: object
    """What it says here."""

    key: str = ""
    where: str = ""
    """For errors: what gave it."""

    def below(self, name: str) -> "_Place":
        inner = self.table.get(name) if isinstance(self.table, Mapping) else None
        return replace(self, table=inner, key=join_key(self.key, name))

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    def choose(self, type_: Any, *, default: Any) -> type[Any]:
        """The class of a section here."""
        choices = section_choices(type_)
        if not choices:
            return chosen_section(type_, self.table, default=run_modality(self.root))
        name = _name_in(self.table) or _name_in(self.root.get(self.name)) or _default_name(default, choices)
        if name not in list(choices):  # a list compares anything, also what has no hash
            given = f"{self.where}: " if self.where else ""
            raise InvalidOption(f"{given}{join_key(self.key, NAME)} is {name!r}. {suggest(str(name), choices)}")
        return choices[name]


def _name_in(table: object) -> str | None:
    return table.get(NAME) if isinstance(table, Mapping) else None


def _default_name(default: Any, choices: Mapping[str, type[Any]]) -> str:
    return next(iter(choices)) if default is MISSING or default is None else getattr(default, NAME)


def _is_any_section(type_: Any) -> bool:
    return is_section(type_) or bool(section_choices(type_))


def _checked_table(kind: type[Any], table: dict[str, Any], *, place: _Place, is_choice: bool = False) -> dict[str, Any]:
    """The table with its values converted."""
    types = (
        types_of(kind) | ({MODALITY: str} if belongs_to_a_modality(kind) else {}) | ({NAME: str} if is_choice else {})
    )
    defaults = {key_of(field): field for field in keyed_fields(kind)}
    for name, value in table.items():
        if name not in types:
            raise _unknown(kind, name, value, types=types, place=place)
    return {
        name: _checked(types[name], value, default=_default_at(defaults.get(name)), place=place.below(name))
        for name, value in table.items()
    }


def _default_at(field: Any) -> Any:
    return MISSING if field is None else default_of(field, MISSING)


def _unknown(kind: type[Any], name: str, value: Any, *, types: Mapping[str, Any], place: _Place) -> InvalidOption:
    key = join_key(place.key, name)
    if changes := renamed(key, value):
        known = types_of(place.kind)
        told = [
            f"{old} is now `{new}`" if new.partition(".")[0] in known else f"{old} is no option here"
            for old, new in changes
        ]
        return InvalidOption(f"{place.where}: unknown key {key}. {'; '.join(told)}.")
    choice = getattr(kind, NAME, None)
    is_choice = isinstance(choice, str) and NAME not in types_of(kind)
    where_it_is = _where_it_is(name, place) or suggest(name, types)
    return InvalidOption(f"{place.where}: unknown key {key}{f' of {choice}' if is_choice else ''}. {where_it_is}")


def _where_it_is(name: str, place: _Place) -> str:
    """Which section has an option of this name, or which of the classes that the section may be; empty for none."""
    key = join_key(place.key, name)  # of another class, where the section has one that was chosen for it
    options = [
        option
        for option in option_fields(place.kind)
        if option.name == name and ANY_NAME not in option.key and (option.key != key or option.of)
    ]
    here = [option for option in options if option.section == place.name and option.of]
    if here:
        return f"It is an option of {' and '.join(here[0].of)} alone."
    keys = [f"`{option.key}`" for option in options if option.section != place.name]  # there it is of another modality
    return f"Did you mean {' or '.join(keys)}?" if 0 < len(keys) <= 3 else ""


def _checked(type_: Any, value: Any, *, default: Any, place: _Place) -> Any:
    if _is_any_section(type_):
        table = _converted(dict[str, Any], value, place=place)
        section = place.choose(type_, default=default)
        return _checked_table(section, table, place=place, is_choice=bool(section_choices(type_)))
    if named := named_section(type_):
        tables = _converted(dict[str, Any], value, place=place)
        return {
            name: _checked(named, table, default=MISSING, place=place.below(name)) for name, table in tables.items()
        }
    return _converted(type_, value, place=place)


def _converted(type_: Any, value: Any, *, place: _Place) -> Any:
    try:
        return msgspec.convert(value, type_, dec_hook=_custom)
    except msgspec.ValidationError as error:
        raise InvalidOption(f"{place.where}: {place.key} is {value!r}, but must be {_expected(type_)}.") from error


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


def _build_whole(kind: type[Recipe], table: dict[str, Any], place: _Place) -> Recipe:
    """Of [student.small.optimizer] what isn't given there is as [optimizer] says."""
    whole = dict(table)
    for name, type_ in types_of(kind).items():
        if name in table and is_section(type_):
            whole[name] = _over_runs(kind, table, type_, table[name], place=place.below(name))
        elif name in table and (named := named_section(type_)):
            at = place.below(name)
            whole[name] = {
                one: _over_runs(kind, table, named, inner, place=at.below(one)) for one, inner in table[name].items()
            }
    return _build(kind, whole, base=MISSING, place=place)


def _over_runs(
    kind: type[Any], table: Mapping[str, Any], inner_kind: type[Any], inner: Mapping[str, Any], *, place: _Place
) -> dict[str, Any]:
    """The table of a section, those in it that begin from the recipe's section of their name holding all of that; one
    of another class (another loss, another modality) has nothing of it."""
    found, types, own_types = dict(inner), types_of(kind), types_of(inner_kind)
    defaults = {key_of(field): _default_at(field) for field in keyed_fields(kind)}
    for name in (field.name for field in fields(inner_kind) if OVER_RUN in field.metadata and field.name in inner):
        if _is_any_section(own_types[name]):
            run = replace(place, table=place.root.get(name), key=name).choose(types[name], default=defaults[name])
            is_same = place.below(name).choose(own_types[name], default=None) is run
            found[name] = merged(table.get(name, {}) if is_same else {}, inner[name])
    return found


def _build(kind: type[Recipe], table: dict[str, Any], *, base: Any, place: _Place) -> Recipe:
    types, values = types_of(kind), {}
    for field in keyed_fields(kind):
        key = key_of(field)
        type_, default, at = types[key], default_of(field, base), place.below(key)
        if _is_any_section(type_) and (key in table or default is MISSING):
            values[field.name] = _build_section(type_, table.get(key, {}), default=default, place=at)
        elif key not in table:
            values[field.name] = _given(default, key=at.key)
        elif named := named_section(type_):
            values[field.name] = {
                name: _build(named, inner, base=MISSING, place=at.below(name)) for name, inner in table[key].items()
            }
        else:
            values[field.name] = table[key]
    try:
        return kind(**values)
    except InvalidOption as error:
        raise InvalidOption(_in_place(str(error), key=place.key)) from error


def _in_place(message: str, *, key: str) -> str:
    """What a section says of its options, with their keys: `loss.beta` may be `student.small.loss.beta`."""
    message = (
        re.sub(rf"(?<![\w.]){re.escape(key.rpartition('.')[2])}\.(?=[a-z])", f"{key}.", message) if key else message
    )
    is_named = not key or any(f"{key}{end}" in message for end in ".]`")
    return message if is_named else f"[{key}]: {message}"


def _build_section(type_: Any, table: dict[str, Any], *, default: Any, place: _Place) -> Any:
    section = place.choose(type_, default=default)
    inner = default if isinstance(default, section) else MISSING
    if section_choices(type_):
        table = {name: value for name, value in table.items() if name != NAME}
    return _build(section, table, base=inner, place=place)


def _given(default: Any, *, key: str) -> Any:
    if default is MISSING:
        raise InvalidOption(f"`{key}` is missing. Give it as a flag, with --set, or in a recipe.")
    return default
