"""Re-hash everything in a store, and list what is damaged, missing or foreign."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from softlab.disk import list_files
from softlab.manifest import MANIFEST_NAME
from softlab.store.card import CARD_NAME
from softlab.store.files import hash_matches
from softlab.store.folder import COMMITS, is_adding_views, layout_records, read_plan, written_by
from softlab.store.reader import read_manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """What a store holds against what its manifest says."""

    digest: str
    num_files: int
    num_bytes: int
    damaged: list[str] = field(default_factory=list)
    """Files whose size or hash differs, or that are links."""

    missing: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Files that the manifest doesn't name; they are never read."""

    is_adding_views: bool = False
    """Whether views are being added, or were by a dump that was interrupted; their files are not foreign, and those
    that describe the layout may be of before or after."""

    @property
    def is_intact(self) -> bool:
        return not (self.damaged or self.missing or self.foreign)


def verify_store(path: str | Path, *, on_file: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Compare every file with the manifest; damage is listed, not raised.

    `on_file(done, total)` is called after each file. Raises NotAStore, UnfinishedStore or UnsupportedStore where there
    is no manifest to compare with.
    """
    root = Path(path)
    manifest, digest = read_manifest(root)
    found = set(list_files(root))
    expected = {file.path: file for file in manifest.files}
    adding = is_adding_views(root)
    renewed = {file.path: file for file in layout_records(read_plan(root))} if adding else {}
    damaged = []
    for done, (name, record) in enumerate(expected.items(), start=1):
        versions = [record, renewed[name]] if name in renewed else [record]
        if name in found and not any(hash_matches(root, version) for version in versions):
            damaged.append(name)
        if on_file is not None:
            on_file(done, len(expected))
    foreign = found - expected.keys() - {MANIFEST_NAME, CARD_NAME}
    foreign -= {path for path in foreign if path.startswith(f"{COMMITS}/")}  # of a dump that goes on, or was killed
    return VerifyReport(
        digest=digest,
        num_files=len(expected),
        num_bytes=sum(record.bytes for record in expected.values()),
        damaged=damaged,
        missing=sorted(expected.keys() - found),
        foreign=sorted(foreign - set(written_by(read_plan(root), foreign)) if adding else foreign),
        is_adding_views=adding,
    )
