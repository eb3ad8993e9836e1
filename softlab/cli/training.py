"""What the two training commands show: a bar while they run, a table at the end."""

from collections.abc import Sequence
from pathlib import Path

from softlab.cli.progress import RunBar
from softlab.cli.tables import format_duration, format_share, print_table
from softlab.errors import TrainingFailed
from softlab.ranks import is_first_rank
from softlab.student.loop import OnProgress, TrainProgress
from softlab.student.run_folder import StudentResult
from softlab.student.search import Trial


def training_bar(bar: RunBar) -> OnProgress:
    """What a training run calls after each step: shows all its steps, with the epoch and the best validation accuracy
    beside them."""

    def show(progress: TrainProgress) -> None:
        accuracies = [valid.accuracy for valid in progress.valid.values() if valid.accuracy is not None]
        best = f", best {max(accuracies):.2%}" if accuracies else ""
        bar(progress.step, f"epoch {progress.epoch}{best}", progress.num_steps, unit="steps")

    return show


def print_results(results: Sequence[StudentResult], *, out: Path) -> None:
    """All students of a run, once. Raises TrainingFailed if some of them were set aside."""
    if not is_first_rank():
        return
    headers = ["student", "accuracy", "best", "agreement", "KL", "loss", "parameters", "time"]
    rows = []
    for result in results:
        last, best = result.last, result.best
        rows.append(
            [
                result.name,
                format_share(last.accuracy if last else None),
                format_share(best.accuracy if best else None),
                format_share(last.teacher_agreement if last else None),
                "-" if last is None or last.teacher_kl is None else f"{last.teacher_kl:.3f}",
                "-" if result.train_loss is None else f"{result.train_loss:.3f}",
                f"{result.num_parameters:,}",
                format_duration(result.seconds),
            ]
        )
    print_table(headers, rows, title=f"Students of {out}")
    print("accuracy, agreement with the teacher and KL to it (nats): on the validation source, after the last epoch;")
    print("best: highest accuracy of any epoch.")
    failed = [result for result in results if result.error is not None]
    if failed:
        lines = "; ".join(f"{result.name}: {result.error}" for result in failed)
        raise TrainingFailed(f"{len(failed)} of {len(results)} students were set aside. {lines}")


def print_trials(trials: Sequence[Trial], *, most: int = 10) -> None:
    """The best trials of a search."""
    rows = [
        [
            str(place),
            trial.options.loss,
            f"{trial.options.temperature:g}",
            f"{trial.options.alpha:.3f}",
            "failed" if trial.result.error else f"{trial.score:.2%}",
        ]
        for place, trial in enumerate(trials[:most], start=1)
    ]
    print_table(["", "loss", "T", "alpha", "validation"], rows, title=f"The best of {len(trials)} trials")
    failed = [trial for trial in trials if trial.result.error]
    if failed:
        print(f"{len(failed)} of {len(trials)} trials failed. {failed[0].result.name}: {failed[0].result.error}")
