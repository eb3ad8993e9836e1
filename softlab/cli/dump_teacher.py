"""`softlab dump-teacher`: run a teacher once over a source and store what it says."""

from dataclasses import replace

from softlab.cli.dumping import print_summary, print_survey
from softlab.cli.flags import recipe_command
from softlab.cli.launch import launch
from softlab.cli.progress import run_bar, scan_bar
from softlab.models.device import count_devices
from softlab.ranks import is_first_rank, is_launched, num_ranks
from softlab.recipes.dump import DumpRecipe
from softlab.teacher.dump import DumpProgress
from softlab.teacher.survey import Survey
from softlab.teacher.survey_run import SurveyProgress


@recipe_command(DumpRecipe)
def dump_teacher(recipe: DumpRecipe) -> None:
    """Run a teacher once over a source and write its largest logits, exact tails and chosen features to a store.

    An interrupted dump goes on when the same command is run again, also with another number of devices.
    """
    options = recipe.dump
    if options.engine != "here":
        _run(recipe, num_devices=options.num_devices or 1)
        return
    count = num_ranks() if is_launched() else count_devices(options.num_devices, device=recipe.device.name)
    recipe = replace(recipe, dump=replace(options, devices=1))
    if not recipe.plan and count > 1 and not is_launched():
        launch("dump-teacher", recipe, count=count)
    elif not recipe.plan or is_first_rank():
        _run(recipe, num_devices=count)


def _run(recipe: DumpRecipe, *, num_devices: int) -> None:
    with run_bar() as bar:

        def on_progress(progress: DumpProgress | SurveyProgress) -> None:
            bar(progress.done, progress.note, progress.total, unit=progress.unit)

        made = recipe.run(on_scan=scan_bar(bar), on_progress=on_progress)
    if isinstance(made, Survey):
        print_survey(made, num_devices=num_devices)
    elif is_first_rank():
        print_summary(made)
