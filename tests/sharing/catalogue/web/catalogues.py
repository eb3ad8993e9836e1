"""Catalogues as folders for a web server: the page, `catalog.json`, and what lies beside the versions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from softlab.card.render import render_card
from softlab.manifest.versions import CatalogRecord, TagRecord, VersionRecord
from softlab.sharing.catalogue.page import page_files
from softlab.sharing.publish.about import describe_store, encode_about
from softlab.sharing.publish.figures import BINS, Figures, encode_figures
from tests.manifests import make_manifest
from tests.sharing.records import WRITER, make_tag, make_version

VERSIONS = (
    make_version("pets", 1, accuracy=0.81, num_samples=3_680),
    make_version("pets", 2, accuracy=0.84, num_samples=3_680),
    make_version("pets", 3, accuracy=0.86, num_samples=3_680, terms="For research only."),
    make_version(
        "imagenet-eva02",
        7,
        teacher="timm:eva02_large_patch14_448",
        source="folder:imagenet-1k",
        num_samples=1_281_167,
        num_classes=1000,
        k=64,
        accuracy=None,
        num_bytes=1_234_567_890,
        licence="MIT",
    ),
    make_version("scenes", 5, source="folder:places", head="sigmoid", accuracy=0.6),
)
PETS = VERSIONS[2]
TAGS = (make_tag("pets", "latest", 3), make_tag("pets", "paper", 1), make_tag("imagenet-eva02", "latest", 7))


def write_catalogue(root: Path, versions: Sequence[VersionRecord], tags: Sequence[TagRecord] = ()) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for path, data in page_files().items():
        (root / path).write_bytes(data)
    record = CatalogRecord(updated="2026-10-20T08:00:00Z", writer=WRITER, versions=tuple(versions), tags=tuple(tags))
    (root / "catalog.json").write_bytes(msgspec.json.encode(record))


def write_card(root: Path, version: VersionRecord, text: str | None = None) -> None:
    card = render_card(make_manifest(), version=version) if text is None else text
    _write(root, version, "md", card.encode())


def write_figures(root: Path, version: VersionRecord, **changes: Any) -> None:
    """A share of rows that rises from bin to bin, the same in each histogram."""
    rising = tuple(range(BINS))
    figures = Figures(
        digest=version.digest,
        rows=sum(rising),
        confidence_temperature=1.0,
        confidence=rising,
        temperatures=version.summary.temperatures,
        captured_mass=tuple(rising for _ in version.summary.temperatures),
    )
    _write(root, version, "figures.json", encode_figures(msgspec.structs.replace(figures, **changes)))


def write_about(root: Path, version: VersionRecord, **changes: Any) -> None:
    about = describe_store(make_manifest(), digest=version.digest)
    _write(root, version, "about.json", encode_about(msgspec.structs.replace(about, **changes)))


def write_signature(root: Path, version: VersionRecord, *, hint: str = "c" * 64) -> None:
    """Not one that can be checked: the page doesn't."""
    _write(root, version, "sig", msgspec.json.encode({"verificationMaterial": {"publicKey": {"hint": hint}}}))


def _write(root: Path, version: VersionRecord, ending: str, data: bytes) -> None:
    path = root / version.name / "versions" / f"{version.version}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
