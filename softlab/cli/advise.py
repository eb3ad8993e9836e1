"""`softlab advise`: find out how to train a student from a store, and write the recipe."""

import typer

from softlab.amounts import format_count
from softlab.cli.flags import argument_first, recipe_command
from softlab.cli.progress import run_bar, scan_bar
from softlab.cli.say import say
from softlab.cli.tables import print_columns, print_facts
from softlab.cli.training import print_start, training_bar, trial_columns
from softlab.ranks import is_first_rank
from softlab.recipes.advice_text import facts_of, reasons
from softlab.recipes.advise import AdviseRecipe
from softlab.student.advice_rounds import Round

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
            print_facts(facts_of(evidence))
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
