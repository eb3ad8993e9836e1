"""A command's options as one nested frozen dataclass, filled from a TOML recipe, flags and `--set` assignments.

A field that is itself a dataclass is a section: `[teacher]` in TOML, `teacher.model` as a dotted key. A field
`dict[str, Dataclass]` is a table of named sections: `[student.small]`. A section that may be None stays None until
something under it is given.

Defaults < TOML < flags < `--set`: tables are merged key by key, anything else given later replaces what was there.
"""

import ast
import functools
import inspect
import itertools
import operator
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from softlab.errors import InvalidOption, suggest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Recipe = TypeVar("Recipe", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionField:
    """One option of a command, wherever it sits in the command's sections."""

    key: str
    """Dotted, as in TOML and `--set`: `teacher.model`."""

    flag: str
    """`--teacher-weights`; just `--weights` in the main section, just `--teacher` for a section's head."""

    is_head: bool
    """Whether the flag is the name of its section."""

    type: Any
    """As annotated, without its `| None`."""

    default: Any
    """`dataclasses.MISSING` if it must be given; None if it must be given only once its optional section is."""

    help: str
    """The docstring under the field."""

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


def option_fields(kind: type[Any], *, main_section: str = "") -> list[OptionField]:
    """Every option of a command in the order of declaration; a table of named sections is one option."""
    return list(_walk(kind, base=MISSING, section="", main_section=main_section))


def head_field(section: type[Any]) -> str | None:
    """The field that a section is mostly about (a source's path): its first one, if that has no default."""
    first = fields(section)[0]
    is_required = first.default is MISSING and first.default_factory is MISSING
    return first.name if is_required else None


def named_section(type_: Any) -> type[Any] | None:
    """The Dataclass of `dict[str, Dataclass]`."""
    values = get_args(type_)[1:] if get_origin(type_) is dict else ()
    return next(filter(_is_section, values), None)


def load_recipe(
    kind: type[Recipe],
    *,
    path: Path | None,
    flags: Mapping[str, Any],
    assignments: Sequence[str],
    main_section: str = "",
) -> Recipe:
    """Build `kind` from the TOML file at `path`, `flags` (dotted key to value; None is not given) and `--set` texts.

    Raises InvalidOption for an unknown key, a value of the wrong type, a missing value, and whatever a section's own
    check refuses.
    """
    names = {field.key: field.flag for field in option_fields(kind, main_section=main_section)}
    given = [(str(path), read_toml(path))] if path else []
    given += [(names.get(key, key), _nested(key, value)) for key, value in flags.items() if value is not None]
    given += [(f"--set {text}", parse_assignment(text)) for text in assignments]
    checked = [_checked_table(kind, table, key="", where=where) for where, table in given]
    try:
        return _build(kind, functools.reduce(merged, checked, {}), base=MISSING, key="", flags=names)
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


def merged(table: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables: tables in them are merged key by key, of anything else the later one counts."""
    both = dict(table)
    for name, value in later.items():
        are_tables = isinstance(value, dict) and isinstance(both.get(name), dict)
        both[name] = merged(both[name], value) if are_tables else value
    return both


def write_recipe(path: Path, recipe: "DataclassInstance") -> None:
    """A TOML file that `load_recipe` reads as this recipe. TOML has no null: a None where another value is the default
    can't be written."""
    path.write_bytes(msgspec.toml.encode(given_values(recipe)))


def given_values(value: Any) -> Any:
    """Of a recipe the table that describes it, of numbers, strings, lists and tables."""
    if is_dataclass(value) and not isinstance(value, type):
        inner = {field: getattr(value, field.name) for field in fields(value)}
        return {field.name: given_values(each) for field, each in inner.items() if not _goes_unsaid(field, each)}
    if isinstance(value, Mapping):
        return {name: given_values(inner) for name, inner in value.items()}
    if isinstance(value, tuple | list):
        return [given_values(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _goes_unsaid(field: Field[Any], value: Any) -> bool:
    return value is None or (value in ((), {}) and value == _default(field, MISSING))


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


def _walk(kind: type[Any], *, base: Any, section: str, main_section: str) -> Iterator[OptionField]:
    types, docstrings, head = _types(kind), _docstrings(kind), head_field(kind)
    for field in fields(kind):
        key, type_, default = _join(section, field.name), types[field.name], _default(field, base)
        if _is_section(type_):
            yield from _walk(type_, base=default, section=key, main_section=main_section)
        else:
            is_head = field.name == head and section not in ("", main_section)
            flag = _flag((section if is_head else key).removeprefix(f"{main_section}."))
            text = docstrings.get(field.name, "")
            yield OptionField(key=key, flag=flag, is_head=is_head, type=type_, default=default, help=text)


def _flag(key: str) -> str:
    return "--" + key.replace(".", "-").replace("_", "-")


def _default(field: Field[Any], base: Any) -> Any:
    """The field's value in `base`, the default of its whole section; MISSING and None are sections without one."""
    if base is not MISSING and base is not None:
        return getattr(base, field.name)
    if field.default_factory is not MISSING:
        return field.default_factory()
    return base if field.default is MISSING else field.default


def _types(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: _without_none(hints[field.name]) for field in fields(kind)}


def _without_none(type_: Any) -> Any:
    if get_origin(type_) not in (Union, UnionType):
        return type_
    members = [member for member in get_args(type_) if member is not NoneType]
    return functools.reduce(operator.or_, members)


def _docstrings(kind: type[Any]) -> dict[str, str]:
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for pair in itertools.pairwise(tree.body):
        match pair:
            case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text)))):
                texts[name] = " ".join(text.split())
    return texts


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


def _decode_toml(text: str) -> dict[str, Any]:
    return msgspec.toml.decode(text, type=dict[str, Any])


def _with_leaf(table: dict[str, Any], leaf: Any) -> dict[str, Any]:
    return {name: _with_leaf(inner, leaf) if isinstance(inner, dict) else leaf for name, inner in table.items()}


def _nested(key: str, value: Any) -> dict[str, Any]:
    name, _, rest = key.partition(".")
    return {name: _nested(rest, value) if rest else value}


def _checked_table(kind: type[Any], table: dict[str, Any], *, key: str, where: str) -> dict[str, Any]:
    types = _types(kind)
    for name in table:
        if name not in types:
            raise InvalidOption(f"{where}: unknown key {_join(key, name)}. {suggest(name, types)}")
    return {name: _checked(types[name], value, key=_join(key, name), where=where) for name, value in table.items()}


def _checked(type_: Any, value: Any, *, key: str, where: str) -> Any:
    if _is_section(type_):
        return _checked_table(type_, _converted(dict[str, Any], value, key=key, where=where), key=key, where=where)
    if section := named_section(type_):
        tables = _converted(dict[str, Any], value, key=key, where=where)
        return {name: _checked(section, table, key=_join(key, name), where=where) for name, table in tables.items()}
    return _converted(type_, value, key=key, where=where)


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
    checked = _checked_table(kind, dict(table), key="", where=where)
    try:
        return _build(kind, checked, base=base, key="", flags={})
    except InvalidOption as error:
        raise InvalidOption(f"{where}: {error}") from error


def _build(kind: type[Recipe], table: dict[str, Any], *, base: Any, key: str, flags: Mapping[str, str]) -> Recipe:
    types, values = _types(kind), {}
    for field in fields(kind):
        at, type_, default = _join(key, field.name), types[field.name], _default(field, base)
        if _is_section(type_) and (field.name in table or default is MISSING):
            inner = MISSING if default is None else default
            values[field.name] = _build(type_, table.get(field.name, {}), base=inner, key=at, flags=flags)
        elif field.name not in table:
            values[field.name] = _given(default, key=at, flags=flags)
        elif section := named_section(type_):
            values[field.name] = {
                name: _build(section, inner, base=MISSING, key=_join(at, name), flags=flags)
                for name, inner in table[field.name].items()
            }
        else:
            values[field.name] = table[field.name]
    return kind(**values)


def _given(default: Any, *, key: str, flags: Mapping[str, str]) -> Any:
    if default is MISSING:
        prefixes = itertools.accumulate(key.split("."), _join)  # a named section has one flag: student.small.model
        flag = next((flags[prefix] for prefix in prefixes if prefix in flags), None)
        raise InvalidOption(f"{key} is missing. Give {f'{flag}, or {key} in a recipe' if flag else 'it there'}.")
    return default


def _is_section(type_: Any) -> TypeGuard[type[Any]]:
    return isinstance(type_, type) and is_dataclass(type_)


def _join(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name
