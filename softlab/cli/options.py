"""`softlab options`: every option of a command, with its text, default and choices."""

import textwrap
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from softlab.cli.commands import load_command
from softlab.cli.flags import choices_text, default_text
from softlab.errors import InvalidOption, suggest
from softlab.recipes.modality_sections import options_of_modalities
from softlab.recipes.options import OptionField

INDENT = "    "
MOST_WIDE = 120

RECIPE_COMMANDS = ("dump-teacher", "import", "train-student", "train-teacher", "evaluate", "bench", "catalog")
"""Those whose options can stand in a recipe, or be set with `--set`."""


def options(
    command: Annotated[str, typer.Argument(help="One of " + ", ".join(RECIPE_COMMANDS) + ".", show_default=False)],
    section: Annotated[str | None, typer.Argument(help="Only this one, e.g. loss.", show_default=False)] = None,
) -> None:
    """Print every option of a command by its key in a recipe, and its flag where it has one.

    Any of them can be set on the command line too, with --set KEY=VALUE.
    """
    kind = recipe_kind(command)
    found = options_of_modalities(kind)
    sections = list(dict.fromkeys(option.key.partition(".")[0] for option in found))
    if section is not None and section not in sections:
        raise InvalidOption(f"{command} has no section {section!r}. {suggest(section, sections)}")
    width = min(Console().width, MOST_WIDE)
    for name in sections if section is None else [section]:
        print("\n".join(_section_lines(name, found, flags=kind.flags, width=width)))


def recipe_kind(command: str) -> Any:
    """The class of a command's recipe. Raises InvalidOption for a command that has none."""
    if command not in RECIPE_COMMANDS:
        raise InvalidOption(
            f"{command!r}: its options are those that `softlab {command} --help` shows, or there is no such command. "
            f"{suggest(command, RECIPE_COMMANDS)}"
        )
    return load_command(command).recipe_kind  # type: ignore[attr-defined]


def _section_lines(section: str, options: list[OptionField], *, flags: dict[str, str], width: int) -> Iterator[str]:
    for option in options:
        if option.key.partition(".")[0] == section:
            yield option.key + (f"   {flags[option.key]}" if option.key in flags else "")
            of = f"Of {', '.join(option.of)}." if option.of else ""
            text = " ".join(filter(None, [option.help, choices_text(option), default_text(option), of]))
            yield from textwrap.wrap(text, width, initial_indent=INDENT, subsequent_indent=INDENT)
