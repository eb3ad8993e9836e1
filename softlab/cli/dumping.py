"""What `dump-teacher` prints: the table of a plan, the facts of a finished store."""

from rich.console import Console

from softlab.cli.tables import format_bytes, format_duration, print_facts, print_table
from softlab.labels.soft_labels import Head
from softlab.teacher.dump import DumpSummary
from softlab.teacher.survey import Survey

_LEGENDS: dict[Head, str] = {
    "softmax": "mass: mean probability of the kept classes. KL: nats lost with the tail shared equally.",
    "sigmoid": "mass: share of the summed probability that the kept classes have. BCE: nats a class by which binary "
    "cross-entropy is off with the mean probability of the classes that are not kept.",
}


def print_survey(survey: Survey, *, num_devices: int) -> None:
    """What each K would keep, lose and weigh."""
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


def print_summary(summary: DumpSummary) -> None:
    """What was written, how good it is, and how long it took."""
    statistics, selection = summary.manifest.statistics, summary.manifest.selection
    num_skipped = len(summary.manifest.source.skipped)
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
