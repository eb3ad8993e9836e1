"""`softlab chain`: run the stages of one recipe in their order; those that are finished are skipped by the commands."""

import importlib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from softlab.cli.flags import prepare
from softlab.errors import InvalidOption, suggest
from softlab.ranks import is_first_rank
from softlab.recipe import merged, read_toml

COMMANDS = ("train-teacher", "dump-teacher", "train-student", "evaluate")


def chain(
    recipe: Annotated[
        Path, typer.Argument(help="TOML file with [[stage]] tables and, if you like, [common].", show_default=False)
    ],
) -> None:
    """Run several commands from one recipe: a teacher, its store, an assistant, the assistant's store, students.

    Each [[stage]] names its command, and holds that command's recipe; what stands in [common] and the command knows is
    part of it too, where the stage doesn't say otherwise. Run again, the chain goes on where it was stopped.
    """
    run_chain(read_toml(recipe), where=str(recipe))


def run_chain(document: dict[str, Any], *, where: str) -> None:
    """All stages of a recipe that was read already. Raises InvalidOption for one that is wrong, before any has run, and
    whatever a stage raises; `where` names the recipe in errors."""
    stages = _read_stages(document, where=where)
    runs = [
        prepare(_function(command), table, where=f"{where}: stage {number} ({command})")
        for number, (command, table) in enumerate(stages, start=1)
    ]
    for number, ((command, table), run) in enumerate(zip(stages, runs, strict=True), start=1):
        if is_first_rank():
            typer.echo(f"== {number} of {len(stages)}: {command} {table.get('out', '')}".rstrip(), err=True)
        run()


def _read_stages(document: dict[str, Any], *, where: str) -> list[tuple[str, dict[str, Any]]]:
    unknown = document.keys() - {"stage", "common"}
    if unknown:
        raise InvalidOption(f"{where}: unknown key {min(unknown)}. {suggest(min(unknown), ['stage', 'common'])}")
    stages, common = document.get("stage"), document.get("common", {})
    if not isinstance(stages, list) or not stages or not all(isinstance(stage, dict) for stage in stages):
        raise InvalidOption(f"{where}: has no stages. Write a [[stage]] table for each command to run.")
    if not isinstance(common, dict):
        raise InvalidOption(f"{where}: common is {common!r}, but must be a table.")
    for number, stage in enumerate(stages, start=1):
        _check_command(stage.get("command"), where=f"{where}: stage {number}")
    _check_common(common, where=where)
    return [_with_common(stage, common) for stage in stages]


def _check_command(command: object, *, where: str) -> None:
    if command is None:
        raise InvalidOption(f"{where}: command is missing. Give one of {', '.join(COMMANDS)}.")
    if command not in COMMANDS:
        raise InvalidOption(f"{where}: command is {command!r}. {suggest(str(command), COMMANDS)}")


def _check_common(common: dict[str, Any], *, where: str) -> None:
    known = {name for command in COMMANDS for name in _keys(command)}
    for name in common:
        if name not in known:
            raise InvalidOption(f"{where}: unknown key common.{name}. {suggest(name, sorted(known))}")


def _with_common(stage: dict[str, Any], common: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    command = stage["command"]
    shared = {name: value for name, value in common.items() if name in _keys(command)}
    own = {name: value for name, value in stage.items() if name != "command"}
    return command, merged(shared, own)


def _keys(command: str) -> list[str]:
    return [field.name for field in fields(_function(command).recipe_kind)]


def _function(command: str) -> Any:
    name = command.replace("-", "_")
    return getattr(importlib.import_module(f"softlab.cli.{name}"), name)
