"""`softlab train-teacher`: train a teacher on hard targets."""

from softlab.cli.flags import recipe_command
from softlab.cli.progress import run_bar, scan_bar
from softlab.cli.training import print_results, training_bar
from softlab.recipes.teacher import TeacherRecipe


@recipe_command(TeacherRecipe)
def train_teacher(recipe: TeacherRecipe) -> None:
    """Train a teacher on hard targets alone: the trainer of `train-student` without a store.

    The weights for `dump-teacher` are OUT/teacher/best.safetensors or last.safetensors.
    """
    with run_bar() as bar:
        results = recipe.run(on_scan=scan_bar(bar), on_progress=training_bar(bar))
    print_results(results, out=recipe.out)
