"""The options of a command: every field of its nested frozen dataclasses, with the docstring under it as the help. Its
first paragraph is what `--help` shows.

A field that is itself a dataclass is a section: `[teacher]` in TOML, `teacher.model` as a dotted key. A section that
may be one of several dataclasses, each with a `name` of its own, says which by that key: `[loss] name = "dkd"`. A field
`dict[str, Dataclass]` is a table of named sections: `[student.small]`. A section that may be None stays None until
something under it is given.
"""

import ast
import functools
import inspect
import itertools
import operator
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

NAME = "name"
"""The key that says which of several dataclasses a section is."""

ANY_NAME = "NAME"
"""Stands for a name that the user chooses, in the keys of a named section."""

KEY = "key"
"""Key of a field's metadata: its key in a recipe, where that is not its name."""

ELSEWHERE = "elsewhere"
"""Key of a field's metadata: of one that a recipe has in a section of its own, so that it is no key here."""

OVER_RUN = "over the run's"
"""Key of a field's metadata, in a named section: of a section that begins from the recipe's section of that name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionField:
    """One option of a command, wherever it sits in the command's sections."""

    key: str
    """Dotted, as in TOML and `--set`: `teacher.model`."""

    type: Any
    """As annotated, without its `| None`."""

    default: Any
    """`dataclasses.MISSING` if it must be given; None if it must be given only once its optional section is."""

    paragraphs: tuple[str, ...]
    """Of the docstring under the field."""

    of: tuple[str, ...] = ()
    """In a section that may be one of several dataclasses: the names of those that have it; none for all."""

    @property
    def help(self) -> str:
        """The whole docstring."""
        return " ".join(self.paragraphs)

    @property
    def summary(self) -> str:
        """Its first paragraph."""
        return self.paragraphs[0] if self.paragraphs else ""

    @property
    def section(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]


ChooseSection = Callable[[type[Any]], type[Any]]
"""The class that a section has instead of the one that is declared; that one itself where there is no choice."""


def option_fields(kind: type[Any], *, choose: ChooseSection = lambda section: section) -> list[OptionField]:
    """Every option of a command in the order of declaration, those of named sections too."""
    return list(_walk(kind, base=MISSING, section="", choose=choose))


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


def section_choices(type_: Any) -> dict[str, type[Any]]:
    """By name the dataclasses that a section may be, where it may be one of several; else none."""
    members = get_args(type_) if get_origin(type_) in (Union, UnionType) else ()
    return {getattr(each, NAME): each for each in members} if members and all(map(is_section, members)) else {}


def key_of(field: Field[Any]) -> str:
    """What a field is called in a recipe."""
    key: str = field.metadata.get(KEY, field.name)
    return key


def types_of(kind: type[Any]) -> dict[str, Any]:
    """By key the type of each field, without its `| None`."""
    hints = get_type_hints(kind)
    return {key_of(field): _without_none(hints[field.name]) for field in keyed_fields(kind)}


def keyed_fields(kind: type[Any]) -> list[Field[Any]]:
    """Those that are keys of a recipe."""
    return [field for field in fields(kind) if ELSEWHERE not in field.metadata]


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


def _walk(kind: type[Any], *, base: Any, section: str, choose: ChooseSection) -> Iterator[OptionField]:
    types, docstrings = types_of(kind), _docstrings(kind)
    for field in keyed_fields(kind):
        key, type_, default = join_key(section, key_of(field)), types[key_of(field)], default_of(field, base)
        text = docstrings.get(field.name, ())
        if OVER_RUN in field.metadata:
            yield OptionField(key=key, type=type_, default=default, paragraphs=text)
        elif choices := section_choices(type_):
            yield from _walk_choices(choices, default=default, section=key, choose=choose)
        elif is_section(type_):
            chosen = choose(type_)
            yield from _walk(chosen, base=default if chosen is type_ else MISSING, section=key, choose=choose)
        else:
            yield OptionField(key=key, type=type_, default=default, paragraphs=text)
            if named := named_section(type_):
                yield from _walk(named, base=MISSING, section=join_key(key, ANY_NAME), choose=choose)


def _walk_choices(
    choices: dict[str, type[Any]], *, default: Any, section: str, choose: ChooseSection
) -> Iterator[OptionField]:
    """Which one it is, and every option that one of them has, once."""
    names = Literal[tuple(choices)]  # type: ignore[valid-type]
    chosen = default if default is MISSING or default is None else getattr(default, NAME)
    yield OptionField(key=join_key(section, NAME), type=names, default=chosen, paragraphs=())
    found: dict[str, dict[str, OptionField]] = {}
    for name, choice in choices.items():
        for option in _walk(choice, base=MISSING, section=section, choose=choose):
            found.setdefault(option.key, {})[name] = option
    for of in found.values():
        first = next(iter(of.values()))
        others = {
            name: each
            for name, each in of.items()
            if (each.paragraphs, each.default) != (first.paragraphs, first.default)
        }
        is_shared = not others or len(of) > len(others) + 1
        yield OptionField(
            key=first.key,
            type=first.type,
            default=first.default if is_shared else None,
            paragraphs=(*first.paragraphs, *_help_of_each(others)) if is_shared else (" ".join(_help_of_each(of)),),
            of=() if len(of) == len(choices) else tuple(of),
        )


def _help_of_each(of: dict[str, OptionField]) -> tuple[str, ...]:
    """Of an option that means something else in each of some classes."""
    return tuple(f"{name}: {option.help} Default: {option.default}." for name, option in of.items())


def _without_none(type_: Any) -> Any:
    if get_origin(type_) not in (Union, UnionType):
        return type_
    members = [member for member in get_args(type_) if member is not NoneType]
    return functools.reduce(operator.or_, members)


def _docstrings(kind: type[Any]) -> dict[str, tuple[str, ...]]:
    """The paragraphs of each field of a dataclass, of those that it has from another one too."""
    texts: dict[str, tuple[str, ...]] = {}
    for each in reversed(kind.__mro__):
        if is_dataclass(each):
            texts |= _own_docstrings(each)
    return texts


@functools.cache
def _own_docstrings(kind: type[Any]) -> dict[str, tuple[str, ...]]:
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for pair in itertools.pairwise(tree.body):
        match pair:
            case (ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text)))):
                texts[name] = tuple(" ".join(each.split()) for each in text.split("\n\n"))
    return texts
