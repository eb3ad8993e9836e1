"""`softlab dump-teacher`: run a teacher once over a source and store what it says."""

from dataclasses import replace

from softlab.cli.dump_progress import print_state
from softlab.cli.dumping import print_summary, print_survey
from softlab.cli.flags import recipe_command
from softlab.cli.launch import launch
from softlab.cli.progress import run_bar, scan_bar
from softlab.models.device import count_devices
from softlab.ranks import is_first_rank, is_launched, num_ranks, srun_task
from softlab.recipes.dump import DumpRecipe
from softlab.store.dump_state import DumpState
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.survey import Survey
from softlab.teacher.survey_run import SurveyProgress


@recipe_command(DumpRecipe)
def dump_teacher(recipe: DumpRecipe) -> None:
    """Run a teacher once over a source and write its largest logits, exact tails and chosen features to a store.

    An interrupted dump goes on when the same command is run again, also with another number of devices. With shards
    any number of such commands share a dump, on any machines and in any order.
    """
    options = recipe.dump
    if recipe.shards is not None or (srun_task() is not None and not recipe.plan):
        _run(recipe, num_devices=1)
        return
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
    elif isinstance(made, DumpState):
        print_state(made)
    elif is_first_rank():
        print_summary(made)
