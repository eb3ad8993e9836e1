"""`softlab advise`: find out how to train a student from a store, and write the recipe."""

import typer

from softlab.amounts import format_count
from softlab.cli.flags import argument_first, recipe_command
from softlab.cli.metric_columns import metrics_among
from softlab.cli.progress import run_bar, scan_bar
from softlab.cli.say import say
from softlab.cli.tables import print_columns, print_facts
from softlab.cli.training import print_start, training_bar, trial_columns
from softlab.ranks import is_first_rank
from softlab.recipes.advise import AdviseRecipe
from softlab.student.advice_rounds import Round
from softlab.student.advise import Advice
from softlab.student.stored_evidence import NEARLY_ALL, StoredEvidence
from softlab.student.trials import Trial

STORES_ARGUMENT = typer.Argument(
    None, metavar="[STORE]...", show_default=False, help="A teacher's output: a path, URL, or NAME@VERSION."
)


@argument_first("store", argument=STORES_ARGUMENT, type=list[str], takes_recipe=True)
@recipe_command(AdviseRecipe)
def advise(recipe: AdviseRecipe) -> None:
    """Look at what a store holds, try losses, temperatures and alphas on parts of a run, and write the best recipe.

    What is tried costs about 6 runs of the student. Advice that was interrupted goes on when the same command is run
    again.
    """
    with run_bar() as bar:
        found = recipe.advise_on(
            on_scan=scan_bar(bar), on_progress=training_bar(bar), on_start=print_start, on_round=_print_round
        )
    if is_first_rank():
        for evidence in found.evidence:
            print_facts(_facts(evidence))
        for line in reasons(found):
            say(line)
        say(f"The recipe: softlab train-student {recipe.recommended}")


def _print_round(found: Round) -> None:
    if is_first_rank():
        say(
            f"{len(found.trials)} candidates, {format_count(found.run.epochs, 'epoch')} of "
            f"{format_count(found.num_samples, 'sample')}:"
        )
        print_columns(trial_columns(found.trials))


def _facts(evidence: StoredEvidence) -> dict[str, str]:
    views = format_count(evidence.num_views, "view")
    facts = {"store": f"{evidence.name}: {evidence.num_classes:,} classes, {evidence.kept}, {views}"}
    if evidence.teacher_accuracy is not None:
        facts["teacher accuracy"] = f"{evidence.teacher_accuracy:.2%} of the hard targets"
    if evidence.entropy is not None:
        facts["entropy"] = f"{evidence.entropy:.3f} nats a row"
    for each in evidence.at:
        enough = f"K = {each.enough_k} holds {NEARLY_ALL:.0%}"
        short = f"less than {NEARLY_ALL:.0%}; a larger dump.k would hold more"
        facts[f"kept at T={each.temperature:g}"] = f"{each.mass:.4f} ({short if each.enough_k is None else enough})"
    return facts


def reasons(found: Advice) -> list[str]:
    """What speaks for the recipe, and for other data, a line each."""
    best, runs = found.best, f"{found.cost:.1f} runs of the student"
    lines = [
        f"Best: {best.result.name}, {_figure(best)} after {found.run.epochs} epochs. All that was tried cost {runs}."
    ]
    if found.is_reached:
        lines.append("The figure that was asked for is reached: the search ended there.")
    if found.hard is not None and found.hard is not best and found.hard.result.error is None:
        lines.append(f"Hard targets alone: {_figure(found.hard)}, in the last round that had them.")
    if found.hard is best:
        lines.append(
            "Hard targets alone are the best here: the stored labels teach this student nothing more. Check the "
            "teacher's accuracy, or give it samples without hard targets, which only a teacher makes useful."
        )
    if found.half is not None and found.half.result.error is None:
        lines.append(
            f"With half of the samples, for as many steps: {_figure(found.half)}; what lies between is about what "
            f"twice the samples would bring. They need no hard targets at alpha 1."
        )
    return [*lines, *_of_views(found)]


def _of_views(found: Advice) -> list[str]:
    num_views = min(each.num_views for each in found.evidence)
    if num_views >= found.run.epochs or num_views == 1:
        return []
    return [
        f"Each of the {num_views} stored views is seen {found.run.epochs / num_views:.1f} times: softlab dump-teacher "
        f"--views +N stores more."
    ]


def _figure(trial: Trial) -> str:
    assert trial.result.best_by is not None, "it was measured"
    assert trial.result.last is not None, "likewise"
    (metric,) = metrics_among({trial.result.best_by})
    return trial.result.last.figure(metric.name)
