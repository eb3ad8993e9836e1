"""Changed copies of training runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from softlab.report.runs import TrainingRun, read_run

FAILURE = "TrainingFailed: student small: its loss is nan by step 12. Lower `optimizer.learning_rate`."

Settings = dict[str, Any]


def copy_run(run: Path, to: Path, change: Callable[[Settings], object] = lambda settings: None) -> Path:
    """The same run in another folder, with other settings."""
    shutil.copytree(run, to)
    change_json(to / "run.json", change)
    return to


def copied(run: Path, to: Path, change: Callable[[Settings], object] = lambda settings: None) -> TrainingRun:
    """As `copy_run`, already read."""
    return read_run(copy_run(run, to, change))


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def lines_of(run: Path) -> list[dict[str, Any]]:
    """Of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def keep_lines(run: Path, is_kept: Callable[[dict[str, Any]], bool]) -> None:
    lines = [json.dumps(line) + "\n" for line in lines_of(run) if is_kept(line)]
    (run / "metrics.jsonl").write_text("".join(lines))


def set_aside(run: Path, name: str = "small", *, error: str = FAILURE) -> Path:
    """Make a finished run look as if a student had failed after its first epoch."""

    def change(results: list[dict[str, Any]]) -> None:
        (result,) = [result for result in results if result["name"] == name]
        result |= {"error": error, "last": None}

    change_json(run / "summary.json", change)
    keep_lines(run, lambda line: line["student"] != name or line["epoch"] == 1)
    return run
