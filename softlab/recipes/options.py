"""The options of a command: every field of its nested frozen dataclasses, with the docstring under it as the help.

A field that is itself a dataclass is a section: `[teacher]` in TOML, `teacher.model` as a dotted key. A field
`dict[str, Dataclass]` is a table of named sections: `[student.small]`. A section that may be None stays None until
something under it is given.
"""

import ast
import functools
import inspect
import itertools
import operator
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeGuard, Union, get_args, get_origin, get_type_hints

RECIPE_ONLY = "recipe only"
"""Key of a field's metadata: of a section that has no flags, because too many would be alike."""


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
    """Every option of a command that is also a flag, in the order of declaration; a table of named sections is one."""
    return list(_walk(kind, base=MISSING, section="", main_section=main_section))


def head_field(section: type[Any]) -> str | None:
    """The field that a section is mostly about (a source's path): its first one, if that has no default."""
    first = fields(section)[0]
    is_required = first.default is MISSING and first.default_factory is MISSING
    return first.name if is_required else None


def named_section(type_: Any) -> type[Any] | None:
    """The Dataclass of `dict[str, Dataclass]`."""
    values = get_args(type_)[1:] if get_origin(type_) is dict else ()
    return next(filter(is_section, values), None)


def is_section(type_: Any) -> TypeGuard[type[Any]]:
    """Whether a field of this type is a section: a dataclass of its own."""
    return isinstance(type_, type) and is_dataclass(type_)


def types_of(kind: type[Any]) -> dict[str, Any]:
    """The type of each field, without its `| None`."""
    hints = get_type_hints(kind)
    return {field.name: _without_none(hints[field.name]) for field in fields(kind)}


def default_of(field: Field[Any], base: Any) -> Any:
    """The field's value in `base`, the default of its whole section; MISSING and None are sections without one."""
    if base is not MISSING and base is not None:
        return getattr(base, field.name)
    if field.default_factory is not MISSING:
        return field.default_factory()
    return base if field.default is MISSING else field.default


def join_key(section: str, name: str) -> str:
    """The dotted key of a field; the outermost section has no name."""
    return f"{section}.{name}" if section else name


def _walk(kind: type[Any], *, base: Any, section: str, main_section: str) -> Iterator[OptionField]:
    types, docstrings, head = types_of(kind), _docstrings(kind), head_field(kind)
    for field in fields(kind):
        key, type_, default = join_key(section, field.name), types[field.name], default_of(field, base)
        if RECIPE_ONLY in field.metadata:
            continue
        if is_section(type_):
            yield from _walk(type_, base=default, section=key, main_section=main_section)
        else:
            is_head = field.name == head and section not in ("", main_section)
            flag = _flag((section if is_head else key).removeprefix(f"{main_section}."))
            text = docstrings.get(field.name, "")
            yield OptionField(key=key, flag=flag, is_head=is_head, type=type_, default=default, help=text)


def _flag(key: str) -> str:
    return "--" + key.replace(".", "-").replace("_", "-")


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
