"""Which students of several runs are one student that was trained with several seeds."""

import json
from collections.abc import Sequence
from typing import Any

from softlab.errors import readable
from softlab.report.runs import Result, TrainingRun

Member = tuple[TrainingRun, Result]


def group_by_kind(runs: Sequence[TrainingRun]) -> list[list[Member]]:
    """All students in the order of the runs, those together that differ in nothing but the seed and what follows from
    it, whatever other students their runs have and in whatever versions of libraries.

    Alone stay a student of an unfinished run, one that was set aside, and one that began from other weights than
    another of the same seed, as then its weights were chosen otherwise.
    """
    groups: dict[str, list[Member]] = {}
    for run in runs:
        for result in run.results:
            groups.setdefault(_kind(run, result), []).append((run, result))
    return [part for members in groups.values() for part in _split(members)]


def _kind(run: TrainingRun, result: Result) -> str:
    is_alone = not run.is_finished or result.error is not None
    settings = _without(run.settings, "versions", "students", "run", "distil") | {
        "name": result.name,
        "student": _without(run.settings["students"][result.name], "initial_weights", "seed"),
        "run": _without(run.settings["run"], "seed"),
        "distil": _without(run.settings["distil"], "baseline"),  # students don't depend on each other
        "alone": readable(run.path) if is_alone else None,
    }
    return json.dumps(settings, sort_keys=True)


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _split(members: list[Member]) -> list[list[Member]]:
    """By initial weights, where one seed has several."""
    by_weights: dict[str, list[Member]] = {}
    for run, result in members:
        by_weights.setdefault(run.initial_weights[result.name], []).append((run, result))
    begun = {(run.student_seeds[result.name], run.initial_weights[result.name]) for run, result in members}
    has_one_each = len(begun) == len({seed for seed, _ in begun})
    return [members] if has_one_each else list(by_weights.values())
