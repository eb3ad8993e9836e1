"""Turns a recipe dataclass into a Typer command on which every option of every section is also a flag."""

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import MISSING
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import typer
from rich.markup import escape

from softlab.errors import InvalidOption
from softlab.recipes.building import Recipe, load_recipe
from softlab.recipes.options import OptionField, head_field, named_section, option_fields
from softlab.recipes.toml import parse_value

RECIPE_ARGUMENT = typer.Argument(
    None, metavar="RECIPE", show_default=False, help="TOML file with the options below, a table for each panel."
)
SET_OPTION = typer.Option(
    None,
    "--set",
    metavar="KEY=VALUE",
    help=escape(
        'Any option by its dotted key, e.g. source.limit=100. VALUE is TOML (1, true, "1", [1, 2]); what is not valid '
        "TOML is a string. It overrides flags, which override RECIPE."
    ),
)


def recipe_command(
    kind: type[Recipe], *, main_section: str
) -> Callable[[Callable[[Recipe], None]], Callable[..., None]]:
    """Decorator that makes a Typer command out of a function of one recipe.

    The flags of `main_section` go without its name: `--k` for `dump.k`, but `--teacher-weights`. The section
    may be left out wherever no other option has that name: `--weights`.
    """
    options = {_parameter_name(option): option for option in option_fields(kind, main_section=main_section)}
    flags = Counter(option.flag for option in options.values())
    assert max(flags.values()) == 1, f"{kind.__name__}: two options share a flag: {flags.most_common(1)}"
    short_flags = Counter(_short_flag(option) for option in options.values())
    unambiguous = {flag for flag, count in short_flags.items() if count == 1} - flags.keys()

    def decorate(function: Callable[[Recipe], None]) -> Callable[..., None]:
        @functools.wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
        def command(recipe: Path | None, assignments: list[str] | None, **values: Any) -> None:
            given = {option.key: _flag_value(name, option, values) for name, option in options.items()}
            function(
                load_recipe(kind, path=recipe, flags=given, assignments=assignments or (), main_section=main_section)
            )

        command.recipe_function = function  # type: ignore[attr-defined]
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                _parameter("recipe", Path, RECIPE_ARGUMENT),
                *(
                    parameter
                    for name, option in options.items()
                    for parameter in _option_parameters(name, option, unambiguous)
                ),
                _parameter("assignments", list[str], SET_OPTION),
            ]
        )
        return command

    return decorate


def argument_first(
    name: str, *, argument: Any, type: type[Any] = str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of what `recipe_command` made: the same command with one of its options as the argument, in place of a
    recipe."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            command(recipe=None, **values)

        rest = [each for each in inspect.signature(command).parameters.values() if each.name not in ("recipe", name)]
        first = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=type, default=argument)
        run.__signature__ = inspect.Signature([first, *rest])  # type: ignore[attr-defined]
        return run

    return decorate


def _parameter(name: str, type_: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=type_ | None, default=default)


def _parameter_name(option: OptionField) -> str:
    return option.key.replace(".", "__")


def _short_flag(option: OptionField) -> str:
    return "--" + option.name.replace("_", "-")


def _option_parameters(name: str, option: OptionField, unambiguous: Set[str]) -> Iterator[inspect.Parameter]:
    """Parameters that are None unless given; the real default is only told, for a recipe may name another.

    The short flag and that of a bool's opposite are hidden parameters of their own, for several names of one take so
    wide a column of the help that all are cut short.
    """
    texts = [option.help, _choices_text(option), _repeat_text(option), _default_text(option)]
    help_text = escape(" ".join(filter(None, texts)))
    shown = typer.Option(None, option.flag, metavar=_metavar(option), help=help_text, rich_help_panel=_panel(option))
    yield _parameter(name, _flag_type(option.type), shown)
    if option.type is bool:
        yield _parameter(f"{name}__off", bool, typer.Option(None, _negative(option), hidden=True))
    if _short_flag(option) in unambiguous and not option.is_head:
        hidden = typer.Option(None, _short_flag(option), hidden=True)
        yield _parameter(f"{name}__short", _flag_type(option.type), hidden)


def _negative(option: OptionField) -> str:
    return f"--no-{option.flag.removeprefix('--')}"


def _panel(option: OptionField) -> str | None:
    """The TOML table that the option stands in."""
    table = f"{option.key}.NAME" if named_section(option.type) else option.section
    return escape(f"[{table}]") if table else None


def _choices(option: OptionField) -> tuple[Any, ...]:
    item = get_args(option.type)[0] if get_origin(option.type) is tuple else option.type
    return get_args(item) if get_origin(item) is Literal else ()


def _choices_text(option: OptionField) -> str:
    choices = _choices(option)
    return f"One of {', '.join(map(str, choices))}." if choices else ""


def _repeat_text(option: OptionField) -> str:
    return "Repeatable." if get_origin(option.type) in (tuple, dict) else ""


def _default_text(option: OptionField) -> str:
    if option.default is MISSING:
        return "(required)"
    if option.default is None or option.default in ((), {}):
        return ""
    if option.type is bool:
        return f"(default: yes; {_negative(option)})" if option.default else "(default: no)"
    values = option.default if isinstance(option.default, tuple) else [option.default]
    return f"(default: {', '.join(map(str, values))})"


def _metavar(option: OptionField) -> str | None:
    """What the value is, where its type does not tell, or at too great a width (choices)."""
    if section := named_section(option.type):
        return f"[NAME=]{str(head_field(section)).upper()}"
    if get_origin(option.type) is dict:
        return "NAME=VALUE"
    return option.name.upper() if option.is_head or _choices(option) else None


def _flag_type(type_: Any) -> Any:
    """What Typer is told: a tuple or table is a flag that may be repeated, and Typer takes no list of choices."""
    if get_origin(type_) is dict:
        return list[str]
    if get_origin(type_) is tuple:
        item = get_args(type_)[0]
        return list[str] if get_origin(item) is Literal else list[item]  # type: ignore[valid-type]
    return str if get_origin(type_) is UnionType else type_


def _flag_value(name: str, option: OptionField, values: Mapping[str, Any]) -> Any:
    """The value as a recipe would hold it; None where the flag was not given."""
    value, short = values[name], values.get(f"{name}__short")
    if short is not None and short != []:
        if value is not None and value != []:
            raise InvalidOption(f"{option.flag} and {_short_flag(option)} are the same option. Give one of them.")
        value = short
    if values.get(f"{name}__off"):
        if value:
            raise InvalidOption(f"{option.flag} and {_negative(option)} contradict each other. Give one of them.")
        return False
    if value is None or value == []:
        return None
    return _table(option, value) if get_origin(option.type) is dict else value


def _table(option: OptionField, texts: Sequence[str]) -> dict[str, Any]:
    entries = [_entry(option, text) for text in texts]
    names = [name for name, _ in entries]
    for name in names:
        if names.count(name) > 1:
            raise InvalidOption(f"{option.flag}: {name} is given twice. Give each a name of its own: NAME=VALUE.")
    return dict(entries)


def _entry(option: OptionField, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if section := named_section(option.type):
        model = value if equals else text
        return (name if equals else text.rpartition(":")[2]), {head_field(section): model}
    if not equals:
        raise InvalidOption(f"{option.flag} {text}: no value. Write {option.flag} NAME=VALUE.")
    return name, value if get_args(option.type)[1] is str else parse_value(value)
