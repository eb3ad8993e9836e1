"""Re-hash everything in a store, and list what is damaged, missing or foreign."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from softlab.amounts import format_bytes, format_count
from softlab.card.render import CARD_NAME
from softlab.disk import list_files
from softlab.errors import AccessDenied, DamagedStore
from softlab.manifest import MANIFEST_NAME, FileRecord
from softlab.remote.remote import Place, Remote
from softlab.store.files import hash_matches
from softlab.store.folder import COMMITS, is_adding_views, layout_records, read_plan, written_by
from softlab.store.manifest_file import check_published, read_manifest
from softlab.store.published import LEASE_NAMES, SIGNATURE_NAME, VERSION_NAME, locate
from softlab.store.read_ahead import ReadAhead

BESIDE = {MANIFEST_NAME, CARD_NAME, VERSION_NAME, SIGNATURE_NAME}
"""What the manifest doesn't name and is not foreign."""

State = Literal["intact", "damaged", "missing"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyReport:
    """What `verify_store` found: what a store holds against what its manifest says."""

    digest: str
    num_files: int
    num_bytes: int
    damaged: list[str] = field(default_factory=list)
    """Files whose size or hash differs, or that are links."""

    missing: list[str] = field(default_factory=list)
    """Or access to them is denied, which those who may not list are answered about what isn't there."""

    foreign: list[str] = field(default_factory=list)
    """Files that the manifest doesn't name; they are never read."""

    is_listed: bool = True
    """Whether foreign files could be looked for: a web server lists nothing, an object store not to everybody."""

    is_adding_views: bool = False
    """Whether views are being added, or were by a dump that was interrupted; their files are not foreign, and those
    that describe the layout may be of before or after."""

    def __repr__(self) -> str:
        """Counts alone: there may be a hundred thousand files."""
        counts = {state: len(getattr(self, state)) for state in ("damaged", "missing", "foreign")}
        wrong = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
        files = f"{format_count(self.num_files, 'file')}, {format_bytes(self.num_bytes)}"
        return f"VerifyReport({wrong or 'intact'}, {files}, digest {self.digest[:12]})"

    @property
    def is_intact(self) -> bool:
        return not (self.damaged or self.missing or self.foreign)


def verify_store(where: str | Path, *, on_file: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Compare every file with the manifest, wherever the store lies; damage is listed, not raised.

    `on_file(done, total)` is called after each file. Raises NotAStore, UnfinishedStore or UnsupportedStore where there
    is no manifest to compare with, DamagedStore where it is not the one that was published under the version asked
    for, and what a remote raises.
    """
    located = locate(where)
    manifest, digest = read_manifest(located.place, version=located.version)
    check_published(digest, located)
    place, expected = located.place, manifest.files
    adding, found = isinstance(place, Path) and is_adding_views(place), _list(place)
    states: dict[State, list[str]] = {"intact": [], "damaged": [], "missing": []}
    for done, (path, state) in enumerate(_compare(place, expected, found), start=1):
        states[state].append(path)
        if on_file is not None:
            on_file(done, len(expected))
    return VerifyReport(
        digest=digest,
        num_files=len(expected),
        num_bytes=sum(record.bytes for record in expected),
        damaged=states["damaged"],
        missing=sorted(states["missing"]),
        foreign=[] if found is None else _find_foreign(place, found - {file.path for file in expected}),
        is_listed=found is not None,
        is_adding_views=adding,
    )


def _list(place: Place) -> set[str] | None:
    """All files there; None where nothing is listed."""
    if isinstance(place, Path):
        return set(list_files(place))
    try:
        return {each.path for each in place.list_objects()} if place.can_list else None
    except AccessDenied:  # to lists: the manifest was readable
        return None


def _compare(place: Place, expected: Sequence[FileRecord], found: set[str] | None) -> Iterator[tuple[str, State]]:
    there = [file for file in expected if found is None or file.path in found]
    yield from ((file.path, "missing") for file in expected if found is not None and file.path not in found)
    yield from _compare_local(place, there) if isinstance(place, Path) else _compare_remote(place, there)


def _compare_local(root: Path, there: Sequence[FileRecord]) -> Iterator[tuple[str, State]]:
    renewed = {file.path: file for file in layout_records(read_plan(root))} if is_adding_views(root) else {}
    for record in there:
        is_intact = any(hash_matches(root, each) for each in (record, renewed.get(record.path)) if each is not None)
        yield record.path, "intact" if is_intact else "damaged"


def _compare_remote(remote: Remote, there: Sequence[FileRecord]) -> Iterator[tuple[str, State]]:
    ahead = ReadAhead(remote)
    ahead.begin(there)
    for record in there:
        try:
            ahead.take([record])
            yield record.path, "intact"
        except DamagedStore:
            yield record.path, "missing" if remote.size(record.path) is None else "damaged"
        except AccessDenied:
            remote.size(MANIFEST_NAME)  # raises where it's the credentials that don't hold any longer
            yield record.path, "missing"


def _find_foreign(place: Place, others: set[str]) -> list[str]:
    foreign = others - BESIDE
    if isinstance(place, Remote):
        return sorted(foreign - set(LEASE_NAMES))
    foreign -= {path for path in foreign if path.startswith(f"{COMMITS}/")}  # of a dump that goes on, or was killed
    return sorted(foreign - set(written_by(read_plan(place), foreign)) if is_adding_views(place) else foreign)
