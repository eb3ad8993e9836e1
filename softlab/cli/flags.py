"""Turns a recipe dataclass into a Typer command: its flags are those that the recipe names, all else is `--set`."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import typer
from rich.markup import escape

from softlab.cli.messages import say_flags
from softlab.errors import InvalidOption
from softlab.recipes.building import Recipe, load_recipe
from softlab.recipes.options import OptionField, head_field, named_section, option_fields
from softlab.recipes.toml import parse_value

RECIPE_ARGUMENT = typer.Argument(None, metavar="RECIPE", show_default=False, help="TOML file with any options.")
RECIPE_OPTION = typer.Option(None, "--recipe", metavar="RECIPE", help="TOML file with any options.")
SET_OPTION = typer.Option(
    None,
    "--set",
    metavar="KEY=VALUE",
    help="Any option by its key, e.g. source.limit=100; softlab options lists them. Overrides flags and RECIPE.",
)


def recipe_command(kind: type[Recipe]) -> Callable[[Callable[[Recipe], None]], Callable[..., None]]:
    """Decorator that makes a Typer command out of a function of one recipe.

    The recipe's class attribute `flags` says which options are flags, by key: {"run.epochs": "--epochs"}.
    """
    flags: Mapping[str, str] = kind.flags  # type: ignore[attr-defined]
    by_key = {option.key: option for option in option_fields(kind)}
    options = {_parameter_name(key): by_key[key] for key in flags}
    assert len(set(flags.values())) == len(flags), f"{kind.__name__}: two options share a flag"

    def decorate(function: Callable[[Recipe], None]) -> Callable[..., None]:
        @functools.wraps(function, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
        def command(recipe: Path | None, assignments: list[str] | None, **values: Any) -> None:
            say_flags(flags, by_key.keys())
            given = {
                option.key: (flags[option.key], _flag_value(name, option, flags[option.key], values))
                for name, option in options.items()
            }
            function(load_recipe(kind, path=recipe, flags=given, assignments=assignments or ()))

        command.recipe_function = function  # type: ignore[attr-defined]
        command.recipe_kind = kind  # type: ignore[attr-defined]
        command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                _parameter("recipe", Path, RECIPE_ARGUMENT),
                *(
                    parameter
                    for name, option in options.items()
                    for parameter in _option_parameters(name, option, flags[option.key])
                ),
                _parameter("assignments", list[str], SET_OPTION),
            ]
        )
        return command

    return decorate


def argument_first(
    name: str, *, argument: Any, type: type[Any] = str, takes_recipe: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of what `recipe_command` made: the same command with one of its options as the argument, in place of a
    recipe, which is then `--recipe` if the command `takes_recipe`."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(*, recipe: Path | None = None, **values: Any) -> None:
            command(recipe=recipe, **values)

        rest = [each for each in inspect.signature(command).parameters.values() if each.name not in ("recipe", name)]
        first = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=type, default=argument)
        if takes_recipe:
            rest.insert(-1, _parameter("recipe", Path, RECIPE_OPTION))
        run.__signature__ = inspect.Signature([first, *rest])  # type: ignore[attr-defined]
        return run

    return decorate


def _parameter(name: str, type_: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=type_ | None, default=default)


def _parameter_name(key: str) -> str:
    return key.replace(".", "__")


def _option_parameters(name: str, option: OptionField, flag: str) -> Iterator[inspect.Parameter]:
    """Parameters that are None unless given; the real default is only told, for a recipe may name another.

    The flag of a bool's opposite is a hidden parameter of its own, for several names of one take so wide a column of
    the help that all are cut short.
    """
    texts = [option.summary, choices_text(option), _repeat_text(option), default_text(option)]
    help_text = escape(" ".join(filter(None, texts)))
    shown = typer.Option(None, flag, metavar=_metavar(option, flag), help=help_text)
    yield _parameter(name, _flag_type(option.type), shown)
    if option.type is bool:
        yield _parameter(f"{name}__off", bool, typer.Option(None, _negative(flag), hidden=True))


def _negative(flag: str) -> str:
    return f"--no-{flag.removeprefix('--')}"


def _choices(option: OptionField) -> tuple[Any, ...]:
    item = get_args(option.type)[0] if get_origin(option.type) is tuple else option.type
    return get_args(item) if get_origin(item) is Literal else ()


def choices_text(option: OptionField) -> str:
    """Of an option with few values; else empty."""
    choices = _choices(option)
    return f"One of {', '.join(map(str, choices))}." if choices else ""


def _repeat_text(option: OptionField) -> str:
    return "Repeatable." if get_origin(option.type) in (tuple, dict) else ""


def default_text(option: OptionField) -> str:
    """What an option is where it isn't given; empty where its own text says so."""
    if option.default is MISSING:
        return "(required)"
    if option.default is None or option.default in ((), {}, ""):
        return ""
    if option.type is bool:
        return f"(default: {'yes' if option.default else 'no'})"
    values = option.default if isinstance(option.default, tuple) else [option.default]
    return f"(default: {', '.join(map(str, values))})"


def _metavar(option: OptionField, flag: str) -> str | None:
    """What the value is, where its type does not tell, or at too great a width (choices)."""
    if section := named_section(option.type):
        return f"[NAME=]{str(head_field(section)).upper()}"
    if get_origin(option.type) is dict:
        return "NAME=VALUE"
    if get_origin(option.type) is tuple:
        return option.name.upper()
    is_head = flag == "--" + option.section.rpartition(".")[2].replace("_", "-")
    return option.name.upper() if is_head or _choices(option) else None


def _flag_type(type_: Any) -> Any:
    """What Typer is told: a tuple or table is a flag that may be repeated, and Typer takes no list of choices."""
    if get_origin(type_) is dict:
        return list[str]
    if get_origin(type_) is tuple:
        item = get_args(type_)[0]
        return list[str] if get_origin(item) is Literal else list[item]  # type: ignore[valid-type]
    return str if get_origin(type_) is UnionType else type_


def _flag_value(name: str, option: OptionField, flag: str, values: Mapping[str, Any]) -> Any:
    """The value as a recipe would hold it; None where the flag was not given."""
    value = values[name]
    if values.get(f"{name}__off"):
        if value:
            raise InvalidOption(f"{flag} and {_negative(flag)} contradict each other. Give one of them.")
        return False
    if value is None or value == []:
        return None
    return _table(option, flag, value) if get_origin(option.type) is dict else value


def _table(option: OptionField, flag: str, texts: Sequence[str]) -> dict[str, Any]:
    entries = [_entry(option, flag, text) for text in texts]
    names = [name for name, _ in entries]
    for name in names:
        if names.count(name) > 1:
            raise InvalidOption(f"{flag}: {name} is given twice. Give each a name of its own: NAME=VALUE.")
    return dict(entries)


def _entry(option: OptionField, flag: str, text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if section := named_section(option.type):
        model = value if equals else text
        return (name if equals else text.rpartition(":")[2]), {head_field(section): model}
    if not equals:
        raise InvalidOption(f"{flag} {text}: no value. Write {flag} NAME=VALUE.")
    return name, value if get_args(option.type)[1] is str else parse_value(value)
