"""`softlab chain`: run the stages of one recipe in their order; those that are finished are skipped by the commands."""

from pathlib import Path
from typing import Annotated

import typer

from softlab.cli.commands import load_command
from softlab.cli.say import say
from softlab.ranks import is_first_rank
from softlab.recipes.chain import ChainRecipe, imports_of_chain


def chain(
    recipe: Annotated[
        Path, typer.Argument(help="TOML file with [[stage]] tables and, if you like, [common].", show_default=False)
    ],
    show: Annotated[
        bool, typer.Option("--show", help="List the modules that the recipe would import, and run nothing.")
    ] = False,
) -> None:
    """Run several commands from one recipe: a teacher, its store, an assistant, the assistant's store, students.

    Each [[stage]] names its command, and holds that command's recipe; what stands in [common] and the command knows is
    part of it too, where the stage doesn't say otherwise. Run again, the chain goes on where it was stopped.
    """
    if show:
        _show_imports(recipe)
        return
    stages = ChainRecipe.load(recipe).stages
    for number, stage in enumerate(stages, start=1):
        if is_first_rank():
            typer.echo(f"== {number} of {len(stages)}: {stage}", err=True)
        load_command(stage.command).recipe_function(stage.recipe)  # type: ignore[attr-defined]


def _show_imports(recipe: Path) -> None:
    stages = imports_of_chain(recipe)
    for number, (command, imports) in enumerate(stages, start=1):
        say(f"{number} of {len(stages)}: {command}")
        for each in imports:
            say(f"  {each.key} = {each.name}: {each.place}")
        if not imports:
            say("  nothing but softlab and its packages")
