"""`softlab inspect`: show what a store holds and what it was made from."""

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from softlab.amounts import format_bytes, format_count
from softlab.cli.messages import say_flags
from softlab.cli.opening import STORE_HELP
from softlab.cli.quality import cut_off_fact, quality_facts
from softlab.cli.tables import format_share, print_facts
from softlab.errors import UnfinishedStore
from softlab.manifest import Manifest, OutputRecord, StorePlan, encode, samples_by_precision
from softlab.manifest.versions import VersionRecord
from softlab.modalities.views import describe_views
from softlab.remote.remote import Place
from softlab.store.folder import count_finished_shards, plan_of_added_views, read_plan
from softlab.store.manifest_file import check_published, read_manifest
from softlab.store.published import locate

FLAGS = {"rows": "--rows", "thumbnails": "--thumbnails", "source": "--source"}


def inspect(
    store: Annotated[str, typer.Argument(help=STORE_HELP, show_default=False)],
    rows: Annotated[
        int | None, typer.Option(min=1, help="Show so many samples, with the classes that the teacher gave them.")
    ] = None,
    thumbnails: Annotated[
        Path | None, typer.Option(help="Write the samples, as images, to this HTML or PNG file; needs --source.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Where the images are, as dump-teacher had it; they are compared by content.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest as JSON.")] = False,
) -> None:
    """Show what a store holds, from what it was made, how big and how good it is, and whether it is finished."""
    say_flags(FLAGS, FLAGS.keys())
    if rows is not None or thumbnails is not None:
        from softlab.cli.inspect_rows import show_rows  # needs torch, which takes seconds

        show_rows(store, rows, thumbnails=thumbnails, source=source, as_json=as_json)
        return
    located = locate(store)
    place = located.place
    try:
        manifest, digest = read_manifest(place, version=located.version)
    except UnfinishedStore:
        _show_unfinished(place, as_json=as_json)
        return
    check_published(digest, located)
    if as_json:
        print(json.dumps({"finished": True, "digest": digest, "manifest": json.loads(encode(manifest))}, indent=1))
        return
    facts = _what(located.name, manifest) | _how_good(manifest) | {"digest": digest} | _published(located.version)
    if isinstance(place, Path) and (adding := plan_of_added_views(place)) is not None:
        facts["being added"] = f"{_how_far(place, adding, manifest.views.num_views)} with --views +N"
    print_facts(facts)


def _show_unfinished(store: Place, *, as_json: bool) -> None:
    plan, done = read_plan(store), count_finished_shards(store)
    if as_json:
        facts: dict[str, Any] = {"finished": False, "finished_shards": done, "plan": msgspec.to_builtins(plan)}
        print(json.dumps(facts, indent=1))
        return
    state = f"no: {done:,} of {len(plan.grid):,} shards; the same command that began it goes on with it"
    print_facts(_what(str(store), plan) | {"finished": state})


def _how_far(store: Path, plan: StorePlan, num_views: int) -> str:
    views = plan.views.num_views - num_views
    total = views * plan.grid.parts_per_view
    done = count_finished_shards(store)
    return f"{views} views, {done:,} of {total:,} shards; the same `softlab dump-teacher` command goes on"


def _published(version: VersionRecord | None) -> dict[str, str]:
    if version is None:
        return {}
    facts = {"published": f"{version.name}@{version.version}, {version.published}", "licence": version.licence}
    return facts | ({"terms": version.terms} if version.terms else {})


def _what(store: str, plan: StorePlan) -> dict[str, str]:
    teacher, source = plan.teacher, plan.source
    features = [
        f"{each.name} = {each.taken_from.removeprefix('layer:')} as {each.coding} [{plan.shape_in_words(each)}]"
        f"{_units(each)}"
        for each in plan.values
    ]
    return {
        "store": f"{store} ({plan.storage.format}, format version {plan.format_version})",
        "teacher": f"{teacher.model}, {teacher.in_words}",
        "source": f"{source.name}, {source.num_samples:,} samples, {len(source.skipped):,} skipped{_chosen_from(plan)}",
        "views": f"{plan.views.num_views:,} of {describe_views(plan.views)}{_first_view(plan)}",
        **_soft_labels(plan),
        "features": ", ".join(features) or "none",
    }


def _soft_labels(plan: StorePlan) -> dict[str, str]:
    """Of each output of kind `classes`; its name stands there where there are several."""
    facts: dict[str, str] = {}
    for output in plan.classes:
        name = f" of {output.name}" if len(plan.classes) > 1 else ""
        head = " (multi-label: each class a choice of its own)" if output.head == "sigmoid" else ""
        space, selection = output.label_space, output.selection
        facts |= {
            f"classes{name}": f"{space.num_classes:,}{_some_names(space.class_names)}",
            f"head{name}": output.head + head,
            f"kept{name}": f"{selection.kept} as {output.coding.logits}{_units(output)}",
        }
        if not output.is_sampled:
            facts[f"tail at{name}"] = ", ".join(f"T={temperature:g}" for temperature in selection.temperatures)
    return facts or {"classes": "none: this store holds values alone"}


def _units(output: OutputRecord) -> str:
    return ", a row for each unit of a sample" if output.units else ""


def _chosen_from(plan: StorePlan) -> str:
    chosen_from = plan.source.chosen_from
    return "" if chosen_from is None else f" (chosen from {chosen_from:,})"


def _first_view(plan: StorePlan) -> str:
    return f", from number {plan.views.first:,} on" if plan.views.first else ""


def _some_names(names: tuple[str, ...] | None) -> str:
    return "" if names is None else f" ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"


def _how_good(manifest: Manifest) -> dict[str, str]:
    total, rows = sum(file.bytes for file in manifest.files), manifest.num_rows
    facts = {
        "finished": "yes",
        "size": f"{format_bytes(total)}, {total / max(rows, 1):.1f} bytes per row, {len(manifest.shards):,} shards",
    }
    precisions = samples_by_precision(manifest)
    if precisions:
        facts["other precision"] = ", ".join(
            f"{format_count(count, 'row')} in {precision}" for precision, count in precisions.items()
        )
    facts |= cut_off_fact(manifest)
    facts |= quality_facts(manifest, without_targets=format_share(None))
    return facts | {"source fingerprint": manifest.source_fingerprint}
