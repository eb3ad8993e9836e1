"""`softlab dump-teacher`: run a teacher once over a source and store what it says."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import typer
from rich.console import Console

from softlab.cli.flags import recipe_command
from softlab.cli.launch import launch
from softlab.cli.opening import open_with_bar
from softlab.cli.progress import rows_bar
from softlab.cli.tables import format_bytes, format_duration, print_facts, print_table
from softlab.errors import InvalidOption
from softlab.labels.soft_labels import Head
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import count_devices
from softlab.ranks import is_first_rank, is_launched, num_ranks
from softlab.sources.options import SourceOptions
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import DumpProgress, DumpSummary
from softlab.teacher.dump import dump_teacher as dump
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from softlab.teacher.survey import Survey, survey_teacher


@dataclass(frozen=True, kw_only=True)
class DumpRecipe:
    """A complete dump."""

    out: Path | None = None
    """Folder of the store to write; needed unless this is only a plan."""

    like: str | None = None
    """A store of another teacher, as a path, a URL or NAME@VERSION: run this one over the same samples and views, so
    that both teach together."""

    plan: bool = False
    """Run the teacher on a few thousand samples, print what several K would keep, weigh and take, and write nothing."""

    teacher: ModelOptions
    source: SourceOptions
    input: ImageInput = field(default_factory=ImageInput)
    augment: ViewRecipe | None = None
    dump: DumpOptions = field(default_factory=DumpOptions)


@recipe_command(DumpRecipe, main_section="dump")
def dump_teacher(recipe: DumpRecipe) -> None:
    """Run a teacher once over a source and write its largest logits, exact tails and chosen features to a store.

    An interrupted dump goes on when the same command is run again, also with another number of devices.
    """
    if recipe.out is None and not recipe.plan:
        raise InvalidOption("out is missing. Give --out, or out in a recipe.")
    options = recipe.dump
    count = num_ranks() if is_launched() else count_devices(options.num_devices, device=options.device)
    recipe = replace(recipe, dump=replace(options, devices=1))
    if recipe.plan and is_first_rank():
        _plan(recipe, num_devices=count)
    elif not recipe.plan and count > 1 and not is_launched():
        launch("dump-teacher", recipe, count=count)
    elif not recipe.plan:
        _dump(recipe)


def _plan(recipe: DumpRecipe, *, num_devices: int) -> None:
    teacher, source = _build_teacher(recipe), open_with_bar(recipe.source)
    survey = survey_teacher(teacher, source, recipe.dump, augment=recipe.augment, like=_open_like(recipe))
    _print_survey(survey, num_devices=num_devices)


def _dump(recipe: DumpRecipe) -> None:
    assert recipe.out is not None, "the command has checked it"
    teacher, source = _build_teacher(recipe), open_with_bar(recipe.source)
    like = _open_like(recipe)
    with rows_bar() as bar:

        def on_progress(progress: DumpProgress) -> None:
            if is_first_rank():
                bar(progress.rows, f"{format_bytes(progress.bytes_written)} written", progress.total_rows)

        summary = dump(
            teacher, source, recipe.out, recipe.dump, augment=recipe.augment, like=like, on_progress=on_progress
        )
    if is_first_rank():
        _print_summary(summary, num_skipped=len(source.skipped))


def _open_like(recipe: DumpRecipe) -> Store | None:
    return None if recipe.like is None else open_store(recipe.like)


def _build_teacher(recipe: DumpRecipe) -> Teacher:
    if is_first_rank() and _has_random_weights(recipe.teacher):
        typer.echo("note: no --teacher-weights, so the teacher's weights are random", err=True)
    return Teacher(
        module=build_model(recipe.teacher),
        name=recipe.teacher.model,
        arguments=recipe.teacher.arguments,
        input=recipe.input,
    )


def _has_random_weights(options: ModelOptions) -> bool:
    """A user's own factory may load its weights itself."""
    origin = options.model.partition(":")[0]
    asked = {"weights", "pretrained"} & options.arguments.keys()
    return options.weights is None and not asked and origin in ("torchvision", "timm", "softlab")


_LEGENDS: dict[Head, str] = {
    "softmax": "mass: mean probability of the kept classes. KL: nats lost with the tail shared equally.",
    "sigmoid": "mass: share of the summed probability that the kept classes have. BCE: nats a class by which binary "
    "cross-entropy is off with the mean probability of the classes that are not kept.",
}


def _print_survey(survey: Survey, *, num_devices: int) -> None:
    console = Console()
    on_devices = f" on {num_devices} devices" if num_devices > 1 else ""
    console.print(
        f"{survey.surveyed:,} of {survey.num_samples:,} samples surveyed, {survey.num_classes:,} classes, "
        f"{survey.rows_per_second:,.0f} rows/s: the whole dump takes about "
        f"{format_duration(survey.seconds / num_devices)}{on_devices}."
    )
    error = "BCE" if survey.head == "sigmoid" else "KL"
    columns = [f"{name} T={temperature:g}" for name in ("mass", error) for temperature in survey.temperatures]
    rows = [
        [
            f"{choice.k}{' *' if choice.k == survey.chosen_k else ''}",
            *(f"{mass:.4f}" for mass in choice.captured_mass_T),
            *(f"{divergence:.1e}" for divergence in choice.kl_T),
            f"{choice.bytes_per_row:.1f}",
            format_bytes(survey.store_bytes(choice)),
        ]
        for choice in survey.choices
    ]
    print_table(["K", *columns, "B/row", "store"], rows, title="What each K keeps, loses and weighs (* chosen)")
    console.print(_LEGENDS[survey.head])


def _print_summary(summary: DumpSummary, *, num_skipped: int) -> None:
    statistics, selection = summary.manifest.statistics, summary.manifest.selection
    rate = summary.rows_per_second
    masses = zip(selection.temperatures, statistics.mean_captured_mass, strict=True)
    print_facts(
        {
            "store": str(summary.out),
            "rows": f"{statistics.rows:,}" + (f" ({num_skipped:,} samples skipped)" if num_skipped else ""),
            "bytes per row": f"{summary.bytes_per_row:.1f} (labels {summary.label_bytes_per_row:.1f})",
            "teacher accuracy": "no targets to compare with"
            if statistics.accuracy is None
            else f"{statistics.accuracy:.2%}",
            "captured mass": ", ".join(f"{mass:.4f} at T={t:g}" for t, mass in masses),
            "clipped logits": f"{statistics.clipped_logits:,}",
            "rate": "nothing to do, it was finished"
            if rate is None
            else f"{rate:,.0f} rows/s ({format_duration(summary.seconds)} for {summary.rows_computed:,} rows)",
            "digest": summary.digest,
        }
    )
