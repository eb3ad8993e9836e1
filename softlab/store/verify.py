"""Re-hash everything in a store, and list what is damaged, missing or foreign."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from softlab.amounts import format_bytes, format_count
from softlab.card.render import CARD_NAME
from softlab.disk import is_temporary, list_files, remove
from softlab.errors import AccessDenied, DamagedStore
from softlab.locks import exclusive
from softlab.manifest import MANIFEST_NAME, FileRecord, Manifest, StorePlan
from softlab.remote.remote import Place, Remote
from softlab.store.files import hash_matches
from softlab.store.folder import (
    COMMITS,
    LOCK_NAME,
    layout_records,
    plan_of_added_views,
    remove_finished_commits,
    written_by,
)
from softlab.store.manifest_file import check_published, read_manifest
from softlab.store.published import LEASE_NAMES, PROBE, SIGNATURE_NAME, VERSION_NAME, locate
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

    temporary: list[str] = field(default_factory=list)
    """Files of softlab's own that a process which was killed left, or is writing now. They are never read, and the
    store is intact with them."""

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


def verify_store(
    where: str | Path, *, sweep: bool = False, on_file: Callable[[int, int], None] | None = None
) -> VerifyReport:
    """Compare every file with the manifest, wherever the store lies; damage is listed, not raised.

    With `sweep` temporary files are removed, unless another process is at work on the store (StoreBusy); the report
    tells which they were. `on_file(done, total)` is called after
    each file. Raises NotAStore, UnfinishedStore or UnsupportedStore where there is no manifest to compare with,
    DamagedStore where it is not the one that was published under the version asked for, and what a remote raises.
    """
    located = locate(where)
    manifest, digest = read_manifest(located.place, version=located.version)
    check_published(digest, located)
    adding = _views_being_added(located.place)
    report = _compare_all(located.place, manifest, digest, adding, on_file=on_file)
    if not report.is_intact and located.version is None and (digest, adding) != _is_now(located.place):
        return verify_store(where, sweep=sweep, on_file=on_file)  # views were added meanwhile
    if sweep:
        _sweep(located.place, report.temporary)
    return report


def _views_being_added(place: Place) -> StorePlan | None:
    return plan_of_added_views(place) if isinstance(place, Path) else None


def _is_now(place: Place) -> tuple[str, StorePlan | None]:
    return read_manifest(place)[1], _views_being_added(place)


def _compare_all(
    place: Place,
    manifest: Manifest,
    digest: str,
    adding: StorePlan | None,
    *,
    on_file: Callable[[int, int], None] | None,
) -> VerifyReport:
    expected, found = manifest.files, _list(place)
    states: dict[State, list[str]] = {"intact": [], "damaged": [], "missing": []}
    for done, (path, state) in enumerate(_compare(place, expected, found, adding), start=1):
        states[state].append(path)
        if on_file is not None:
            on_file(done, len(expected))
    foreign, temporary = _find_others(place, (found or set()) - {file.path for file in expected}, adding)
    return VerifyReport(
        digest=digest,
        num_files=len(expected),
        num_bytes=sum(record.bytes for record in expected),
        damaged=states["damaged"],
        missing=sorted(states["missing"]),
        foreign=foreign,
        temporary=temporary,
        is_listed=found is not None,
        is_adding_views=adding is not None,
    )


def _list(place: Place) -> set[str] | None:
    """All files there; None where nothing is listed."""
    if isinstance(place, Path):
        return set(list_files(place))
    try:
        return {each.path for each in place.list_objects()} if place.can_list else None
    except AccessDenied:  # to lists: the manifest was readable
        return None


def _compare(
    place: Place, expected: Sequence[FileRecord], found: set[str] | None, adding: StorePlan | None
) -> Iterator[tuple[str, State]]:
    there = [file for file in expected if found is None or file.path in found]
    yield from ((file.path, "missing") for file in expected if found is not None and file.path not in found)
    yield from _compare_local(place, there, adding) if isinstance(place, Path) else _compare_remote(place, there)


def _compare_local(root: Path, there: Sequence[FileRecord], adding: StorePlan | None) -> Iterator[tuple[str, State]]:
    renewed = {} if adding is None else {file.path: file for file in layout_records(adding)}
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


def _find_others(place: Place, others: set[str], adding: StorePlan | None) -> tuple[list[str], list[str]]:
    """Of the files that the manifest doesn't name, those that are foreign, and softlab's own temporary ones. Those of
    views that are being added are neither: that dump removes them when it goes on."""
    others = others - BESIDE - set(LEASE_NAMES)
    others -= {path for path in others if path.startswith(f"{COMMITS}/")}  # of a dump that goes on, or was killed
    if isinstance(place, Path):
        others -= set() if adding is None else set(written_by(adding, others))
    temporary = {path for path in others if is_temporary(path) or PROBE.fullmatch(path)}
    return sorted(others - temporary), sorted(temporary)


def _sweep(place: Place, paths: list[str]) -> None:
    if isinstance(place, Remote):
        place.delete(paths)
    elif paths:
        with exclusive(place / LOCK_NAME):  # nobody is writing them now
            try:
                remove(place, paths)
            finally:
                remove_finished_commits(place)
