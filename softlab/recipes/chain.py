"""Several runs that follow each other, from one recipe; those that are finished return at once when it is run again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from softlab.errors import InvalidOption, suggest
from softlab.recipes.building import recipe_from
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.evaluate import EvaluateRecipe
from softlab.recipes.import_predictions import ImportRecipe
from softlab.recipes.imports import Import, imports_of
from softlab.recipes.options import types_of
from softlab.recipes.renamed import renamed
from softlab.recipes.teacher import TeacherRecipe
from softlab.recipes.toml import merged, read_toml
from softlab.recipes.train import TrainRecipe

StageRecipe = TeacherRecipe | DumpRecipe | ImportRecipe | TrainRecipe | EvaluateRecipe

COMMANDS: dict[str, type[StageRecipe]] = {
    "train-teacher": TeacherRecipe,
    "dump-teacher": DumpRecipe,
    "import": ImportRecipe,
    "train-student": TrainRecipe,
    "evaluate": EvaluateRecipe,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One run of a chain."""

    command: str
    """That runs it alone: `dump-teacher`."""

    recipe: StageRecipe

    def __str__(self) -> str:
        out = None if isinstance(self.recipe, EvaluateRecipe) else self.recipe.out
        return self.command if out is None else f"{self.command} {out}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainRecipe:
    """A teacher, its store, an assistant, the assistant's store, students: runs that follow each other."""

    stages: tuple[Stage, ...]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The chain of a TOML file with [[stage]] tables and, if wanted, [common]. Raises as `from_table`."""
        return cls.from_table(read_toml(Path(path)), where=str(path))

    @classmethod
    def from_table(cls, table: Mapping[str, Any], *, where: str) -> Self:
        """The chain of a TOML file that was read already; `where` names it in errors.

        Each stage has what is in [common] and its command knows, where it doesn't say otherwise. Raises InvalidOption
        for a stage that is wrong.
        """
        stages = enumerate(_read_stages(table, where=where), start=1)
        return cls(
            stages=tuple(
                Stage(
                    command=command,
                    recipe=recipe_from(COMMANDS[command], options, where=f"{where}: stage {number} ({command})"),
                )
                for number, (command, options) in stages
            )
        )

    def run(self, *, on_stage: Callable[[int, Stage], None] | None = None) -> list[Any]:
        """What the `run` of each stage returned. `on_stage` is called before each, which are counted from 1.

        A chain that was stopped goes on with the stage that is not finished when this is called again.
        """
        results = []
        for number, stage in enumerate(self.stages, start=1):
            if on_stage is not None:
                on_stage(number, stage)
            results.append(stage.recipe.run())
        return results


def imports_of_chain(path: str | Path) -> list[tuple[str, list[Import]]]:
    """What each stage of a chain would import, under its command. Nothing is imported, so that a section of a modality
    of the user's own isn't checked. Raises InvalidOption as `ChainRecipe.load` otherwise."""
    stages = _read_stages(read_toml(Path(path)), where=str(path))
    return [(command, list(imports_of(options))) for command, options in stages]


def _read_stages(document: Mapping[str, Any], *, where: str) -> list[tuple[str, dict[str, Any]]]:
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
    if command not in list(COMMANDS):  # a list compares anything, also what has no hash
        raise InvalidOption(f"{where}: command is {command!r}. {suggest(str(command), COMMANDS)}")


def _check_common(common: dict[str, Any], *, where: str) -> None:
    known = {name for command in COMMANDS for name in _keys(command)}
    for name, value in common.items():
        if name not in known:
            told = "; ".join(f"{old} is now `{new}`" for old, new in renamed(name, value))
            raise InvalidOption(
                f"{where}: unknown key common.{name}. {f'{told}.' if told else suggest(name, sorted(known))}"
            )


def _with_common(stage: dict[str, Any], common: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    command = stage["command"]
    shared = {name: value for name, value in common.items() if name in _keys(command)}
    own = {name: value for name, value in stage.items() if name != "command"}
    return command, merged(shared, own)


def _keys(command: str) -> list[str]:
    return list(types_of(COMMANDS[command]))
