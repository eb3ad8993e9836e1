"""`softlab train-student`: train one or more students from a store, without the teacher."""

from softlab.cli.flags import recipe_command
from softlab.cli.progress import run_bar, scan_bar
from softlab.cli.say import say
from softlab.cli.training import print_results, print_start, print_trials, training_bar
from softlab.ranks import is_first_rank
from softlab.recipes.train import TrainRecipe
from softlab.student.run_folder import StudentResult
from softlab.student.trials import Trial


@recipe_command(TrainRecipe)
def train_student(recipe: TrainRecipe) -> None:
    """Train students on stored soft labels mixed with hard targets; the teacher is not run.

    A killed run goes on exactly where its last checkpoint was when the same command is run again.
    """
    with run_bar() as bar:
        found = recipe.run(on_scan=scan_bar(bar), on_progress=training_bar(bar), on_start=print_start)
    if recipe.search is None:
        print_results([each for each in found if isinstance(each, StudentResult)], out=recipe.out)
    elif is_first_rank():
        print_trials([each for each in found if isinstance(each, Trial)])
        say(f"The best as a recipe: softlab train-student {recipe.best}")
