"""The card: a store's README.md, generated from its manifest, with the front matter that dataset hubs read."""

import json
from typing import NamedTuple

from softlab.labels.soft_labels import Head
from softlab.manifest import Manifest

CARD_NAME = "README.md"


class _Words(NamedTuple):
    """What depends on the teacher's head."""

    head: str
    tail: str
    captured: str
    log_tail: str
    train_options: str


_WORDS: dict[Head, _Words] = {
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


def render_card(manifest: Manifest) -> str:
    """Markdown. The manifest doesn't vouch for this file, so a person may add to it."""
    return "\n".join([*_front_matter(manifest), *_what_it_is(manifest), *_how_good(manifest), *_how_to_read(manifest)])


def _front_matter(manifest: Manifest) -> list[str]:
    return [
        "---",
        f"pretty_name: {json.dumps('Soft labels: ' + manifest.teacher.model + ' on ' + manifest.source.name)}",
        "tags: [softlab, soft-labels, knowledge-distillation]",
        "size_categories:",
        f"- {_size_category(manifest.statistics.rows)}",
        "---",
        "",
    ]


def _what_it_is(manifest: Manifest) -> list[str]:
    teacher, selection, source = manifest.teacher, manifest.selection, manifest.source
    words = _WORDS[manifest.label_space.head]
    features = ", ".join(f"{feature.name} (layer {feature.layer})" for feature in manifest.features) or "none"
    return [
        "# Soft labels for knowledge distillation",
        "",
        f"What the teacher `{teacher.model}` ({teacher.num_parameters:,} parameters, weights "
        f"{teacher.weights_fingerprint[:12]}) said about {source.name}: {source.num_samples:,} samples, "
        f"{manifest.views.num_views} view(s), {manifest.label_space.num_classes} classes.",
        "",
        "| | |",
        "| --- | --- |",
        f"| head | {words.head} |",
        f"| kept | the {selection.k} largest logits of each row |",
        f"| tail | {words.tail} at temperatures {', '.join(f'{t:g}' for t in selection.temperatures)} |",
        f"| views | {_views(manifest)} |",
        f"| coding | {manifest.coding.logits} |",
        f"| features | {features} |",
        f"| format | {manifest.storage.format}, softlab format version {manifest.format_version} |",
        f"| source fingerprint | {manifest.source_fingerprint} |",
        f"| samples left out as unreadable | {len(source.skipped)} |",
        "",
    ]


def _views(manifest: Manifest) -> str:
    views = manifest.views
    names = [transform.name for transform in views.transforms]
    if views.mixing is not None:
        names += [name for name in ("mixup", "cutmix") if getattr(views.mixing, name) is not None]
    return f"{', '.join(names)} (seed {views.seed}; arguments in manifest.json)" if names else "images as they are"


def _how_good(manifest: Manifest) -> list[str]:
    statistics = manifest.statistics
    accuracy = "unknown (no hard targets)" if statistics.accuracy is None else f"{statistics.accuracy:.2%}"
    masses = zip(manifest.selection.temperatures, statistics.mean_captured_mass, strict=True)
    captured = ", ".join(f"{mass:.4f} at T={t:g}" for t, mass in masses)
    return [
        "## How good",
        "",
        f"Teacher's accuracy on these samples: {accuracy}. "
        f"{_WORDS[manifest.label_space.head].captured}: {captured}. "
        f"Logits clipped by the coding: {statistics.clipped_logits:,}.",
        "",
    ]


def _how_to_read(manifest: Manifest) -> list[str]:
    words = _WORDS[manifest.label_space.head]
    lines = [
        "## How to use",
        "",
        "```",
        "softlab verify .",
        "softlab train-student --store . --source YOUR_DATA --student torchvision:resnet18"
        f"{words.train_options} --out RUN",
        "```",
        "",
        "A row's logits are relative to its largest, which is `max_logit`; `log_tail` is the natural log of the",
        f"{words.log_tail}, one column a temperature, -inf where nothing is outside.",
    ]
    if manifest.coding.logits == "uint8":
        lines += [
            f"`logits` holds gaps: a row's logit k is -{manifest.coding.gap_step} times the sum of its gaps 0 to k.",
        ]
    return [*lines, ""]


def _size_category(rows: int) -> str:
    limits = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6, "1M<n<10M": 10**7}
    return next((name for name, limit in limits.items() if rows < limit), "n>10M")
