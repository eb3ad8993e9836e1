"""What `dump-teacher` prints: the table of a plan, the facts of a finished store."""

import math
from collections.abc import Mapping

from rich.console import Console

from softlab.amounts import format_bytes, format_count, format_duration
from softlab.cli.quality import coding_in_words, cut_off_fact, quality_facts
from softlab.cli.tables import print_columns, print_facts
from softlab.labels.soft_labels import Head
from softlab.teacher.dump import DumpSummary
from softlab.teacher.survey import Survey

BILLION = 10**9

_LEGENDS: dict[Head, str] = {
    "softmax": "mass: mean probability of the kept classes. KL: nats lost with the tail shared equally. "
    "angle: degrees by which that turns the gradient of a student that knows nothing yet.",
    "sigmoid": "mass: share of the summed probability that the kept classes have. BCE: nats a class by which binary "
    "cross-entropy is off with the mean probability of the classes that are not kept.",
}


def print_survey(survey: Survey, *, num_devices: int) -> None:
    """What each K would keep, lose and weigh."""
    console = Console()
    on_devices = f" on {num_devices} devices" if num_devices > 1 else ""
    until = " until the time was up" if survey.is_cut_short else ""
    console.print(
        f"{survey.surveyed:,} of {survey.num_samples:,} samples surveyed{until}, {survey.num_classes:,} classes, "
        f"{survey.rows_per_second:,.0f} rows/s: the whole dump takes about "
        f"{format_duration(survey.seconds / num_devices)}{on_devices}."
    )
    if survey.num_redone:
        console.print(
            f"{survey.num_redone:,} of the surveyed samples overflowed in half precision: a dump runs such rows again "
            f"in float32, those alone."
        )
    if survey.features:
        console.print(f"Features: {_in_a_line(survey.features)}.", markup=False)
    if survey.sampled:
        _print_sampled(survey, console)
        return
    error = "BCE" if survey.head == "sigmoid" else "KL"
    kinds = ("mass", "angle", error) if survey.head == "softmax" else ("mass", error)
    columns = [f"{name} T={temperature:g}" for name in kinds for temperature in survey.temperatures]
    rows = [
        [
            f"{choice.k}{' *' if choice.k == survey.chosen_k else ''}",
            *(f"{mass:.4f}" for mass in choice.captured_mass_T),
            *("-" if math.isnan(angle) else f"{angle:.1f}" for angle in choice.angle_T),
            *(f"{divergence:.1e}" for divergence in choice.kl_T),
            f"{choice.bytes_per_row:.1f}",
            format_bytes(survey.store_bytes(choice)),
        ]
        for choice in survey.choices
    ]
    heads = ["K", *columns, "B/row", "store"]
    print_columns(
        {head: [row[place] for row in rows] for place, head in enumerate(heads)},
        title="What each K keeps, loses and weighs (* chosen)",
    )
    console.print(_LEGENDS[survey.head])
    if uniform := _near_uniform(survey):
        where = ", ".join(f"{each:g}" for each in uniform)
        console.print(
            f"The teacher's outputs are near uniform at T={where}: no angle can be told there. Check its weights and "
            f"inputs."
        )
    if survey.gap_step is not None and survey.coding_cost is not None:
        clipped = f"; {survey.clipped_logits:,} logits clipped" if survey.clipped_logits else ""
        console.print(f"uint8 coding: {coding_in_words(survey.gap_step, *survey.coding_cost)}{clipped}.")
    console.print(f"store: all of it, {format_bytes(survey.bytes_of_samples)} of that keys, hashes and lists of files.")
    if survey.recommended is not None:
        best = survey.recommended
        console.print(f"Recommended: K={best.k}, and to train at T={best.temperature:g}: {best.why}.")


def _print_sampled(survey: Survey, console: Console) -> None:
    """Of rows that are samples of their distribution."""
    columns = {
        "resolution": [
            f"{each.resolution}{' *' if each.resolution + 1 == survey.chosen_k else ''}" for each in survey.sampled
        ],
        "entries": [f"{each.entries:.1f}" for each in survey.sampled],
        "head": [f"{each.head_mass:.3f}" for each in survey.sampled],
        "angle": ["-" if math.isnan(each.angle) else f"{each.angle:.1f}" for each in survey.sampled],
        "B/row": [f"{each.bytes_per_unit:.1f}" for each in survey.sampled],
        "store": [format_bytes(survey.store_bytes(each)) for each in survey.sampled],
    }
    print_columns(columns, title="What each resolution keeps and weighs (* chosen)")
    console.print(
        f"{survey.num_rows / max(survey.surveyed, 1):,.1f} rows a sample. entries: stored classes of a row; head: "
        f"probability of those that aren't drawn; angle: degrees by which the surveyed rows together turn the gradient "
        f"of a student that knows nothing yet (fewer of more rows)."
    )
    chosen = next((each for each in survey.sampled if each.resolution + 1 == survey.chosen_k), None)
    if chosen is not None and survey.num_rows:
        seconds = BILLION * survey.surveyed / (survey.num_rows * survey.rows_per_second)
        console.print(
            f"Each billion rows of this kind: {format_bytes(BILLION * chosen.bytes_per_unit)} and "
            f"{format_duration(seconds)} on a machine like this one."
        )


def _near_uniform(survey: Survey) -> list[float]:
    """The temperatures at which no angle could be told."""
    angles = [
        pair
        for choice in survey.choices
        for pair in zip(choice.angle_T, survey.temperatures, strict=bool(choice.angle_T))
    ]
    return sorted({temperature for angle, temperature in angles if math.isnan(angle)})


def print_summary(summary: DumpSummary) -> None:
    """What was written, how good it is, and how long it took."""
    facts, rate = _facts_of(summary), summary.rows_per_second
    facts["rate"] = "nothing to do, it was finished"
    if rate is not None:
        took, count = format_duration(summary.seconds), summary.rows_computed
        facts["rate"] = f"{rate:,.0f} rows/s ({took} for {count:,} rows)"
        if summary.manifest.has_units:  # what was computed are samples, of several rows each
            facts["rate"] = f"{rate:,.1f} samples/s ({took} for {count:,} samples)"
    print_facts(facts | {"digest": summary.digest})


def print_finished(summary: DumpSummary) -> None:
    """What was written and how good it is, of a store that others have written."""
    print_facts(_facts_of(summary) | {"digest": summary.digest})


def _facts_of(summary: DumpSummary) -> dict[str, str]:
    manifest = summary.manifest
    num_skipped = len(manifest.source.skipped)
    labels = f" (labels {summary.label_bytes_per_row:.1f})" if manifest.classes else ""
    facts = {
        "store": str(summary.out),
        "rows": f"{manifest.num_rows:,}" + (f" ({format_count(num_skipped, 'sample')} skipped)" if num_skipped else ""),
        "bytes per row": f"{summary.bytes_per_row:.1f}{labels}",
        **quality_facts(manifest, without_targets="- (no targets to compare with)"),
    }
    if manifest.classes:
        facts["clipped logits"] = f"{sum(each.clipped_logits for each in manifest.statistics.values()):,}"
    if summary.rows_redone:
        facts["run again in float32"] = f"{format_count(summary.rows_redone, 'row')} that overflowed in half precision"
    facts |= cut_off_fact(manifest)
    if manifest.values:
        facts["features"] = _in_a_line({each.name: manifest.shape_in_words(each) for each in manifest.values})
    return facts


def _in_a_line(shapes: Mapping[str, str]) -> str:
    """`pool [768], map [512x7x7]`."""
    return ", ".join(f"{name} [{shape}]" for name, shape in shapes.items())
