"""The card: a store's README.md, generated from its manifest, with the front matter that dataset hubs read."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from msgspec import UnsetType

from softlab.card.front_matter import front_matter
from softlab.card.kept_sections import is_generated, kept_section, with_digest, written_sections
from softlab.manifest import ClassesRecord, Manifest, Statistics, TeacherRecord, ValuesRecord
from softlab.manifest.versions import VersionRecord
from softlab.remote.address import Address

if TYPE_CHECKING:
    from softlab.labels.soft_labels import Head  # which imports torch

CARD_NAME = "README.md"


class _Words(NamedTuple):
    """The words of a card that depend on the teacher's head."""

    head: str
    tail: str
    captured: str
    log_tail: str
    train_options: str


_WORDS: "dict[Head, _Words]" = {
    "softmax": _Words(
        head="softmax: a probability of each class among all",
        tail="its exact log mass",
        captured="Mean probability of the kept classes",
        log_tail="probability outside the kept classes",
        train_options="",
    ),
    "sigmoid": _Words(
        head="sigmoid: each class a choice of its own (multi-label)",
        tail="the exact log of its classes' mean probability",
        captured="Share of the summed probability that the kept classes have",
        log_tail="mean probability of the classes that are not kept",
        train_options=" --loss bce --alpha 1",
    ),
}


def render_card(
    manifest: Manifest,
    *,
    version: VersionRecord | None = None,
    address: Address | None = None,
    own_card: str | None = None,
) -> str:
    """The card as Markdown. The manifest holds no hash of this file, so a person may edit it.

    `version` is the version that the store is published as, and `address` is where. For a store that was pulled in
    part, `version` is that of the whole store: its licence is shown, but no `softlab pull`, which would get all of it.
    `own_card` is an earlier card: what a person wrote in its sections is kept.
    """
    written = written_sections(own_card or "")
    is_part = version is not None and version.digest == manifest.parent
    return with_digest(
        "\n".join(
            [
                *front_matter(manifest, licence=version.licence if version else None),
                *_what_it_is(manifest),
                *_how_good(manifest),
                *_licence(version, written),
                "## Intended use",
                "",
                *kept_section("intended-use", written),
                "## Contact",
                "",
                *kept_section("contact", written),
                *_how_to_use(manifest, version=None if is_part else version, address=address),
            ]
        )
    )


def renewed_card(own_card: str | None, manifest: Manifest) -> str | None:
    """A new card for a store that has changed, with what a person wrote in the sections of the old one.

    None if a person has changed the old card elsewhere too: then it stays as it is, so that nothing of it is lost.
    """
    if own_card is not None and not is_generated(own_card):
        return None
    return render_card(manifest, own_card=own_card)


def _what_it_is(manifest: Manifest) -> list[str]:
    teacher, source = manifest.teacher, manifest.source
    features = [f"{_plain(each.name)} ({_plain(_place(each.taken_from))}{_coding(each)})" for each in manifest.values]
    classes = [f"{output.label_space.num_classes} classes" for output in manifest.classes] or ["no classes"]
    return [
        "# Soft labels for knowledge distillation",
        "",
        f"The output of the teacher {_code(teacher.model)} ({_known_of(teacher)}) for {_plain(source.name)}: "
        f"{source.num_samples:,} samples, {manifest.views.num_views} view(s), {' and '.join(classes)}.",
        "",
        "| | |",
        "| --- | --- |",
        *(line for output in manifest.classes for line in _soft_labels(output, manifest)),
        f"| views | {_views(manifest)} |",
        f"| features | {', '.join(features) or 'none'} |",
        f"| format | {manifest.storage.format}, softlab format version {manifest.format_version} |",
        *_left_out(manifest),
        f"| source fingerprint | {manifest.source_fingerprint} |",
        f"| samples left out as unreadable | {len(source.skipped)} |",
        "",
    ]


def _known_of(teacher: TeacherRecord) -> str:
    if not isinstance(teacher.imported, UnsetType):
        return teacher.in_words
    return f"{teacher.num_parameters:,} parameters, weights {teacher.weights_fingerprint[:12]}"


def _soft_labels(output: ClassesRecord, manifest: Manifest) -> list[str]:
    """Rows of the table; the output's name stands in them where there are several."""
    words, selection = _WORDS[output.head], output.selection
    of = f" of {output.name}" if len(manifest.classes) > 1 else ""
    units = ", a row for each unit of a sample" if output.units else ""
    temperatures = ", ".join(f"{t:g}" for t in selection.temperatures)
    return [
        f"| head{of} | {words.head} |",
        f"| kept{of} | the {selection.kept} of each row{units} |",
        *([] if output.is_sampled else [f"| tail{of} | {words.tail} at temperatures {temperatures} |"]),
        f"| coding{of} | {output.coding.logits} |",
    ]


def _coding(output: ValuesRecord) -> str:
    return "" if output.coding == "float16" else f", {output.coding}"


def _place(taken_from: str) -> str:
    """`layer:stage4:mean` as `layer stage4`."""
    kind, _, rest = taken_from.partition(":")
    return f"{kind} {rest.partition(':')[0]}" if rest else kind


def _left_out(manifest: Manifest) -> list[str]:
    """Which views and samples of the whole store this part of it lacks."""
    first, chosen_from = manifest.views.first, manifest.source.chosen_from
    lines = []
    if first:
        lines.append(f"| first view | number {first} of the recipe's |")
    if chosen_from is not None:
        lines.append(f"| samples chosen from | {chosen_from:,} |")
    return lines


def _views(manifest: Manifest) -> str:
    views = manifest.views
    names = [transform.name for transform in views.transforms]
    if views.mixing is not None:
        names += [name for name in ("mixup", "cutmix") if getattr(views.mixing, name) is not None]
    return f"{', '.join(names)} (seed {views.seed}; arguments in manifest.json)" if names else "samples as they are"


def _how_good(manifest: Manifest) -> list[str]:
    if not manifest.classes:
        return []
    return ["## How good", "", *(_how_good_is(output, manifest) for output in manifest.classes), ""]


def _how_good_is(output: ClassesRecord, manifest: Manifest) -> str:
    statistics = manifest.statistics[output.name]
    accuracy = "unknown (no hard targets)" if statistics.accuracy is None else f"{statistics.accuracy:.2%}"
    masses = zip(output.selection.temperatures, statistics.mean_captured_mass, strict=True)
    captured = ", ".join(f"{mass:.4f} at T={t:g}" for t, mass in masses)
    name = f"{output.name}: " if len(manifest.classes) > 1 else ""
    return (
        f"{name}Teacher's accuracy on these samples: {accuracy}. "
        f"{_WORDS[output.head].captured}: {captured}. {_sampled(statistics)}"
        f"Logits clipped by the coding: {statistics.clipped_logits:,}.{_coding_cost(statistics)}"
    )


def _sampled(statistics: Statistics) -> str:
    if statistics.entries_per_row is None or statistics.mean_entropy is None:
        return ""
    return f"Entries a row: {statistics.entries_per_row:.1f}. Mean entropy: {statistics.mean_entropy:.3f} nats. "


def _coding_cost(statistics: Statistics) -> str:
    if statistics.coding_cost is None:
        return ""
    kl, shift = statistics.coding_cost
    return f" What the coding rounds: KL {kl:.1g} nats a row; the value of a loss moves by {shift:.1g} nats."


def _licence(version: VersionRecord | None, written: Mapping[str, str]) -> list[str]:
    lines = ["## Licence", ""]
    if version is not None:
        lines += [f"Of these labels: {_plain(version.licence)}.", ""]
    if version is not None and version.terms:
        lines += [f"What the teacher's own licence says about its outputs: {_plain(version.terms)}", ""]
    return [*lines, *kept_section("licence", written, is_asked=version is None)]


def _how_to_use(manifest: Manifest, *, version: VersionRecord | None, address: Address | None) -> list[str]:
    labels = manifest.classes[0] if manifest.classes else None
    words = _WORDS[labels.head if labels else "softmax"]
    values = f" --loss cosine --set loss.output={manifest.values[0].name} --alpha 1" if not labels else ""
    options = words.train_options if labels else values
    get, store = "softlab verify .", "."
    if version is not None:
        get = f"softlab pull {address or f'CATALOGUE/{version.name}@{version.version}'} {version.name}"
        store = version.name
    lines = [
        "## How to use",
        "",
        "```",
        get,
        f"softlab train-student --store {store} --source YOUR_DATA --student torchvision:resnet18{options} --out RUN",
        "```",
    ]
    if labels is not None:
        lines += [
            "",
            "A row's logits are relative to its largest, which is `max_logit`; `log_tail` is the natural log of the",
            f"{words.log_tail}, one column a temperature, -inf where nothing is outside.",
        ]
    if labels is not None and labels.coding.logits == "uint8":
        lines += [
            f"`logits` holds gaps: a row's logit k is -{labels.coding.gap_step} times the sum of its gaps 0 to k.",
        ]
    scaled = [_plain(output.name) for output in manifest.values if output.coding == "int8"]
    if scaled:
        lines += ["", f"A value of {', '.join(scaled)} is its number in `values` times the `scale` of its row."]
    rotated = [_plain(output.name) for output in manifest.values if output.coding == "int8_rotated"]
    if rotated:
        lines += [
            "",
            f"Vectors of {', '.join(rotated)} are rotated before they become `values` times `scale`, and `outliers`",
            "stand apart: the page on softlab's store format, or softlab itself, turns them back.",
        ]
    return [*lines, ""]


def _plain(text: str) -> str:
    """Text by others on one line, with Markdown and HTML escaped, so that it can't change what the card looks like."""
    return re.sub(r"([\\`*_\[\]<>|#!])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text by others as inline code on one line; it can end neither the code nor the cell of a table."""
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "/") + "`"
