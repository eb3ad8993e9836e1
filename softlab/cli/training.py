"""What the two training commands show: a bar while they run, a table at the end."""

from collections.abc import Sequence
from pathlib import Path

from softlab.amounts import format_duration
from softlab.cli.metric_columns import NO_VALUE, cell_of, explain_heads, has_accuracy, head_of, metrics_among
from softlab.cli.progress import RunBar
from softlab.cli.say import say
from softlab.cli.tables import print_columns
from softlab.errors import TrainingFailed
from softlab.evaluation.metrics.accuracy import Accuracy
from softlab.labels.losses import temperature_of
from softlab.ranks import is_first_rank
from softlab.student.loop import OnProgress, TrainProgress
from softlab.student.options import LearnOptions
from softlab.student.run_folder import StudentResult
from softlab.student.trials import Trial


def training_bar(bar: RunBar) -> OnProgress:
    """What a training run calls after each step: shows all its steps, with the epoch and the best student's validation
    figure beside them."""

    def show(progress: TrainProgress) -> None:
        bar(progress.done, progress.note, progress.total, unit=progress.unit)

    return show


def print_start(lines: Sequence[str]) -> None:
    """What is to be known of the labels before the first step."""
    for line in lines:
        say(line)


def print_results(results: Sequence[StudentResult], *, out: Path) -> None:
    """All students of a run, once. Raises TrainingFailed if some of them were set aside."""
    if not is_first_rank():
        return
    best_by, known = results[0].best_by, {name for result in results if result.last for name in result.last.values}
    print_columns(_columns(results, best_by=best_by, known=known), title=f"Students of {out}")
    if best_by is not None:
        (metric,) = metrics_among({best_by})
        say(f"Metrics are of the validation source after the last epoch; best: the best {metric.label} of any epoch.")
    if explained := explain_heads(metrics_among(known)):
        say(explained)
    failed = [result for result in results if result.error is not None]
    if failed:
        lines = "; ".join(f"{result.name}: {result.error}" for result in failed)
        raise TrainingFailed(f"{len(failed)} of {len(results)} students were set aside. {lines}")


def _columns(results: Sequence[StudentResult], *, best_by: str | None, known: set[str]) -> dict[str, list[str]]:
    columns = {"student": [result.name for result in results]}
    for metric in metrics_among({best_by}):
        columns[head_of(metric)] = [cell_of(metric, result.last) for result in results]
        columns["best"] = [cell_of(metric, result.best) for result in results]
    columns["loss"] = [NO_VALUE if result.train_loss is None else f"{result.train_loss:.3f}" for result in results]
    columns["parameters"] = [f"{result.num_parameters:,}" for result in results]
    columns["time"] = [format_duration(result.seconds) for result in results]
    for metric in metrics_among((known | {Accuracy.name} if known and has_accuracy(known) else known) - {best_by}):
        columns[head_of(metric)] = [cell_of(metric, result.last) for result in results]
    return columns


def print_trials(trials: Sequence[Trial], *, most: int = 10) -> None:
    """The best trials of a search."""
    print_columns(trial_columns(trials[:most]), title=f"The best of {len(trials)} trials")
    failed = [trial for trial in trials if trial.result.error]
    if failed:
        say(f"{len(failed)} of {len(trials)} trials failed. {failed[0].result.name}: {failed[0].result.error}")


def trial_columns(trials: Sequence[Trial]) -> dict[str, list[str]]:
    """Their options and figures, in their order."""
    return {
        "": [str(place) for place in range(1, len(trials) + 1)],
        "loss": [trial.learn.loss.name for trial in trials],
        "T": [_temperature(trial.learn) for trial in trials],
        "alpha": [f"{trial.learn.teachers.alpha:.3f}" for trial in trials],
        "validation": [_validation(trial.result) for trial in trials],
    }


def _temperature(learn: LearnOptions) -> str:
    temperature = temperature_of(learn.loss)
    return NO_VALUE if temperature is None else f"{temperature:g}"


def _validation(result: StudentResult) -> str:
    if result.error is not None:
        return "failed"
    values = {} if result.last is None else result.last.values
    (metric,) = metrics_among({result.best_by})
    return metric.unit.text(values[metric.name]) if metric.name in values else NO_VALUE
