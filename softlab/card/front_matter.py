"""The YAML at the head of a card, from which dataset hubs read its licence, tags, size and tables."""

import json
import re
from itertools import pairwise

from softlab.manifest import Manifest, OutputRecord

TASKS = {"images": "image-classification", "text": "text-classification"}
"""By modality, of classes of whole samples."""

SIZES = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

_LISTED = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc-by-2.0
    cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0
    cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
    gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl
    postgresql unlicense wtfpl zlib
"""

HUB_LICENCES = frozenset(_LISTED.split())
"""As hubs write them: SPDX identifiers in lower case, some without their version or `-only`."""


def front_matter(manifest: Manifest, *, licence: str | None) -> list[str]:
    """The lines of YAML. `licence` is that of the soft labels; with None no licence is stated."""
    return [
        "---",
        f"pretty_name: {json.dumps('Soft labels: ' + manifest.teacher.model + ' on ' + manifest.source.name)}",
        *(_licence(licence) if licence is not None else []),
        "tags: [softlab, soft-labels, knowledge-distillation]",
        "annotations_creators: [machine-generated]",
        *_task(manifest),
        *_configs(manifest),
        "size_categories:",
        f"- {_size_category(manifest.num_rows)}",
        "---",
        "",
    ]


def _task(manifest: Manifest) -> list[str]:
    """The hubs' name of what is learnt, where it is known."""
    if all(output.units for output in manifest.classes):
        return []
    found = [TASKS[record.modality] for record in manifest.inputs if record.modality in TASKS]
    return [f"task_categories: [{', '.join(dict.fromkeys(found))}]"] if found else []


def hub_licence(licence: str) -> str | None:
    """The hubs' name for an SPDX identifier: gpl-3.0 for GPL-3.0-or-later. None for anything that they don't list."""
    name = re.sub(r"-(only|or-later)\Z", "", licence.strip().lower())
    candidates = (name, re.sub(r"-[0-9.]+\Z", "", name))
    return next((candidate for candidate in candidates if candidate in HUB_LICENCES), None)


def _licence(licence: str) -> list[str]:
    name = hub_licence(licence)
    if name is not None:
        return [f"license: {name}"]
    slug = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")[:64] or "unnamed"
    return ["license: other", f"license_name: {json.dumps(slug)}"]


def _configs(manifest: Manifest) -> list[str]:
    """Which files a hub shows as tables: the samples, and each output, which is named as it is in the store."""
    tables = {}
    if manifest.storage.format == "parquet":
        outputs: list[OutputRecord] = [*manifest.classes, *manifest.values]
        tables = {output.name: f"{manifest.group_of(output)}/*/*.parquet" for output in outputs}
    of_samples = "samples"
    while of_samples in tables:
        of_samples += "-table"
    path = manifest.samples_file.path
    has_parts = len(manifest.samples_files) > 1
    tables = {of_samples: f"{path.rpartition('/')[0]}/*.parquet" if has_parts else path} | tables
    lines = [line for name, files in tables.items() for line in (f"- config_name: {name}", f"  data_files: {files}")]
    return ["configs:", *lines]


def _size_category(rows: int) -> str:
    """One of the ranges that hubs know: n<1K, 1K<n<10K, .., 100B<n<1T, n>1T."""
    edges = [(f"{count}{unit}", count * scale) for unit, scale in SIZES.items() for count in (1, 10, 100)][:10]
    ranges = ["n<1K", *(f"{low}<n<{high}" for (low, _), (high, _) in pairwise(edges)), "n>1T"]
    return ranges[sum(rows >= limit for _, limit in edges)]
