"""The card: a store's README.md, generated from its manifest, with the front matter that dataset hubs read."""

import json

from softlab.manifest import Manifest

CARD_NAME = "README.md"


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
        f"| kept | the {selection.k} largest logits of each row |",
        f"| tail | its exact log mass at temperatures {', '.join(f'{t:g}' for t in selection.temperatures)} |",
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
        f"Teacher's accuracy on these samples: {accuracy}. Mean probability of the kept classes: {captured}. "
        f"Logits clipped by the coding: {statistics.clipped_logits:,}.",
        "",
    ]


def _how_to_read(manifest: Manifest) -> list[str]:
    lines = [
        "## How to use",
        "",
        "```",
        "softlab verify .",
        "softlab train-student --store . --source YOUR_DATA --student torchvision:resnet18 --out RUN",
        "```",
        "",
        "A row's logits are relative to its largest, which is `max_logit`; `log_tail` is the natural log of the",
        "probability outside the kept classes, one column a temperature, -inf where nothing is outside.",
    ]
    if manifest.coding.logits == "uint8":
        lines += [
            f"`logits` holds gaps: a row's logit k is -{manifest.coding.gap_step} times the sum of its gaps 0 to k.",
        ]
    return [*lines, ""]


def _size_category(rows: int) -> str:
    limits = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6, "1M<n<10M": 10**7}
    return next((name for name, limit in limits.items() if rows < limit), "n>10M")
