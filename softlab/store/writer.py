"""Write a store shard by shard, so that a crash at any moment costs at most the shards in flight.

    STORE/commits/plan.json             what this dump is; a resumed one must be the same
    STORE/commits/<shard>.hashes        content hashes of the samples that the shard's rows came from
    STORE/commits/<shard>.json          the commit record, created last: its shard exists from then on

Work with a record is never done again; a file without one is swept when the dump is resumed. `finalize` gathers the
records into the manifest and writes that last; `commits/` is removed then.

A plan whose `parent` is the finished store at the same place adds views to it. That store stays whole, and readable,
until its manifest is replaced: none of its shards is touched.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.errors import DamagedStore, StoreError, StoreExists, StoreMismatch
from softlab.identity import CONTENT_HASH_BYTES, digest_of, source_fingerprint
from softlab.manifest import (
    MANIFEST_NAME,
    FileRecord,
    Manifest,
    Record,
    ShardRecord,
    Statistics,
    StorePlan,
    add_up,
    decode_manifest,
    differences,
    encode,
)
from softlab.shards import Shard
from softlab.store.card import CARD_NAME, render_card
from softlab.store.files import create_file, exclusive, is_temporary, list_files, read_file, remove, write_files
from softlab.store.format import Arrays, check_arrays
from softlab.store.formats import format_named
from softlab.store.pixel_digests import PixelDigests, digested_samples, digests_name, encode_digests
from softlab.store.samples import SAMPLES_NAME, SampleTable, encode_samples

COMMITS = "commits"
PLAN_NAME = f"{COMMITS}/plan.json"
LOCK_NAME = f"{COMMITS}/lock"


class CommitRecord(Record, frozen=True, kw_only=True):
    """One finished shard."""

    shard: ShardRecord
    hashes_file: FileRecord
    pixel_digests: bytes
    """8 bytes, little-endian, for each view of the shard whose digest is kept, in the order of samples."""


class StoreWriter:
    """One process's hold on an unfinished store; made by `writing`."""

    def __init__(self, root: Path, plan: StorePlan) -> None:
        self.root = root
        self.plan = plan
        self.parent = find_parent(root, plan)
        """The finished store that views are added to."""

        self._format = format_named(plan.storage.format)
        self._commits = self._read_commits()
        self._sweep()

    @property
    def finished(self) -> list[CommitRecord]:
        """Records of the shards that this dump has on disk, in the order of the grid."""
        return [self._commits[shard.name] for shard in self.own_shards if shard.name in self._commits]

    @property
    def own_shards(self) -> list[Shard]:
        """Those that this dump is to write: all of the grid but the parent's."""
        first_view = self.parent.views.num_views if self.parent else 0
        return [shard for shard in self.plan.grid if shard.view >= first_view]

    @property
    def pending(self) -> list[Shard]:
        """Shards still to be written, in the order of the grid."""
        return [shard for shard in self.own_shards if shard.name not in self._commits]

    def write(
        self,
        shard: Shard,
        *,
        arrays: Arrays,
        content_hashes: list[bytes],
        statistics: Statistics,
        pixel_digests: Sequence[int] = (),
    ) -> int:
        """Commit one shard; its bytes on disk. Safe to call from another thread than the one that made the writer."""
        check_arrays(self.plan, shard, arrays)
        assert len(pixel_digests) == len(self._digested(shard)), f"shard {shard.name}: {len(pixel_digests)} digests"
        files = write_files(self.root, self._format.encode(self.plan, shard, arrays))
        hashes_name = f"{COMMITS}/{shard.name}.hashes"
        (hashes_file,) = write_files(self.root, {hashes_name: b"".join(content_hashes)})
        record = CommitRecord(
            shard=ShardRecord(view=shard.view, start=shard.start, stop=shard.stop, files=files, statistics=statistics),
            hashes_file=hashes_file,
            pixel_digests=np.array(pixel_digests, dtype="<u8").tobytes(),
        )
        create_file(self.root / _record_name(shard), encode(record))
        self._commits[shard.name] = record
        return sum(file.bytes for file in files)

    def content_hashes(self, record: CommitRecord) -> list[bytes]:
        """Of the samples of one finished shard, in their order. Raises DamagedStore as `finalize`."""
        data = self._read_written(record, record.hashes_file)
        return [data[start : start + CONTENT_HASH_BYTES] for start in range(0, len(data), CONTENT_HASH_BYTES)]

    def finalize(self, samples: SampleTable) -> Manifest:
        """Read every file back, write what belongs to no shard, then the manifest; the store is finished after that.

        Raises DamagedStore if a file is not what was written; its shard then has no record, and is redone next time.
        """
        assert not self.pending, "finalize comes after the last shard"
        self._read_back()
        parent = self.parent
        layout_files = write_files(self.root, self._format.layout_files(self.plan))
        if parent is None:
            (samples_file,) = write_files(self.root, {SAMPLES_NAME: encode_samples(samples)})
        shards = (*(parent.shards if parent else ()), *(record.shard for record in self.finished))
        manifest = Manifest(
            **{name: getattr(self.plan, name) for name in StorePlan.__struct_fields__},
            source_fingerprint=source_fingerprint(samples.keys, samples.content_hashes),
            samples_file=parent.samples_file if parent else samples_file,
            layout_files=layout_files,
            shards=shards,
            statistics=add_up([shard.statistics for shard in shards]),
            digest_files=(*(parent.digest_files if parent else ()), *self._write_digests()),
        )
        if parent is None or _is_generated(self.root, parent):
            write_files(self.root, {CARD_NAME: render_card(manifest).encode()})
        write_files(self.root, {MANIFEST_NAME: encode(manifest)})
        return manifest

    def _write_digests(self) -> tuple[FileRecord, ...]:
        """One file a view of this dump."""
        if not self.plan.views.digest_every:
            return ()
        by_view: dict[int, list[CommitRecord]] = {}
        for record in self.finished:
            by_view.setdefault(record.shard.view, []).append(record)
        files = {digests_name(view): encode_digests(self._join_digests(records)) for view, records in by_view.items()}
        return write_files(self.root, files)

    def _join_digests(self, records: list[CommitRecord]) -> PixelDigests:
        shards = [self.plan.grid.shard_at(record.shard.view, record.shard.start) for record in records]
        return PixelDigests(
            samples_D=np.concatenate([self._digested(shard) for shard in shards]),
            digests_D=np.frombuffer(b"".join(record.pixel_digests for record in records), dtype="<u8"),
        )

    def _digested(self, shard: Shard) -> NDArray[np.int64]:
        """The samples of a shard whose pixel digests are kept."""
        return digested_samples(shard.start, shard.stop, view=shard.view, every=self.plan.views.digest_every)

    def _read_back(self) -> None:
        for record in self.finished:
            for file in record.shard.files:
                self._read_written(record, file)

    def _read_written(self, record: CommitRecord, file: FileRecord) -> bytes:
        """One file of a finished shard; if it is not what was written, the shard's record goes."""
        try:
            return read_file(self.root, file, next_step="Run the same command again: it writes that shard anew.")
        except DamagedStore:
            shard = self.plan.grid.shard_at(record.shard.view, record.shard.start)
            remove(self.root, [_record_name(shard)])
            raise

    def _read_commits(self) -> dict[str, CommitRecord]:
        """Records by shard name; one that is broken, or whose files are not all there with their sizes, is none."""
        commits = {}
        for shard in self.own_shards:
            record = _read_commit(self.root / _record_name(shard))
            if record and all(_is_present(self.root, file) for file in (*record.shard.files, record.hashes_file)):
                commits[shard.name] = record
        return commits

    def _sweep(self) -> None:
        """Remove what an interrupted dump left: temporary files, and files that no valid record names."""
        kept = {PLAN_NAME, LOCK_NAME}
        for name, record in self._commits.items():
            kept |= {f"{COMMITS}/{name}.json", record.hashes_file.path, *(file.path for file in record.shard.files)}
        found = list_files(self.root)
        if self.parent is not None:  # beside a finished store there may be files of its owner's
            found = written_by(self.plan, found)
            kept |= {file.path for file in self.parent.files}
        remove(self.root, [path for path in found if path not in kept])


@contextmanager
def writing(root: Path, plan: StorePlan) -> Iterator[StoreWriter]:
    """Start a store, or go on with one that was interrupted.

    Raises StoreExists for a folder that holds something else or a finished store, StoreBusy while another process
    writes it, StoreMismatch if the interrupted dump was of another plan.
    """
    _check_vacant(root, plan)
    with exclusive(root / LOCK_NAME):
        try:
            _settle_plan(root, plan)
            yield StoreWriter(root, plan)
        finally:  # also if another process finished it just before the lock was ours, which made its folder anew
            _remove_finished_commits(root)


def find_finished(root: Path, plan: StorePlan) -> Manifest | None:
    """The manifest if this very dump is already finished; None if there is nothing finished here, or the store that
    this plan adds views to.

    Raises StoreExists if what is finished was dumped differently.
    """
    if not (root / MANIFEST_NAME).exists() or find_parent(root, plan) is not None:
        return None
    manifest, _ = _read_manifest(root)
    changed = differences_but_versions(manifest, plan)
    if changed:
        raise StoreExists(
            f"{root}: already holds a finished store that was made differently: {'; '.join(changed)}. "
            f"Choose another --out, or remove that folder; --views +N adds N views to it."
        )
    if (root / COMMITS).exists():
        with exclusive(root / LOCK_NAME):
            _remove_finished_commits(root)
    return manifest


def find_parent(root: Path, plan: StorePlan) -> Manifest | None:
    """The finished store here, if the plan adds views to it."""
    if plan.parent is None or not (root / MANIFEST_NAME).exists():
        return None
    manifest, digest = _read_manifest(root)
    adds_views = plan.views.num_views > manifest.views.num_views  # else it is a conversion of the store into itself
    return manifest if plan.parent == digest and adds_views else None


def is_adding_views(root: Path) -> bool:
    """Whether a finished store is having views added, or was, by a process that did not end well."""
    return (root / PLAN_NAME).exists() and (root / MANIFEST_NAME).exists() and not is_left_over(root)


def is_left_over(root: Path) -> bool:
    """Whether a dump finished its store here, and was killed before it had tidied up."""
    if not ((root / PLAN_NAME).exists() and (root / MANIFEST_NAME).exists()):
        return False
    manifest, _ = _read_manifest(root)
    try:
        plan = read_plan(root)
    except StoreError:
        if (root / PLAN_NAME).exists():
            raise
        return True  # another process has tidied up this moment
    return (plan.parent, plan.views.num_views) == (manifest.parent, manifest.views.num_views)


def differences_but_versions(found: StorePlan, plan: StorePlan) -> list[str]:
    """In what two plans differ, apart from the versions of softlab and its libraries, and from how the store came to
    its number of views."""
    theirs, ours = _settled_part(found), _as_stored(plan)
    for name in ("softlab_version", "libraries", *(["parent"] if plan.parent is None else [])):
        theirs[name] = ours[name]
    return differences(theirs, ours)


def written_by(plan: StorePlan, paths: Iterable[str]) -> list[str]:
    """Those of some paths in a store's folder that a dump of this plan may have written before its manifest."""
    format, views = format_named(plan.storage.format), range(plan.views.num_views)
    own = {format.path_of(field, shard) for shard in plan.grid for field in plan.storage.fields}
    own |= {digests_name(view) for view in views}
    return [path for path in paths if path in own or path.startswith(f"{COMMITS}/") or is_temporary(path)]


def layout_records(plan: StorePlan) -> tuple[FileRecord, ...]:
    """Of the files that describe the whole of a plan's store: they are renewed just before its manifest."""
    files = format_named(plan.storage.format).layout_files(plan)
    return tuple(FileRecord(path=path, bytes=len(data), blake3=digest_of(data)) for path, data in files.items())


def is_unfinished(root: Path) -> bool:
    """Whether a dump into this folder was begun and not finished."""
    return (root / PLAN_NAME).exists() and not (root / MANIFEST_NAME).exists()


def read_plan(root: Path) -> StorePlan:
    """Of an unfinished store. Raises StoreError if it can't be read."""
    try:
        return msgspec.json.decode((root / PLAN_NAME).read_bytes(), type=StorePlan)
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreError(f"{root / PLAN_NAME}: {error}. Remove {root} and dump again.") from error


def count_finished_shards(root: Path) -> int:
    """Of an unfinished store, without taking hold of it."""
    return len(list((root / COMMITS).glob("view-*.json")))


def _check_vacant(root: Path, plan: StorePlan) -> None:
    if find_parent(root, plan) is not None:
        return
    if (root / MANIFEST_NAME).exists():
        raise StoreExists(f"{root}: already holds a finished store. Choose another --out, or remove that folder.")
    if _holds_other_files(root):
        raise StoreExists(f"{root}: is a folder with other files in it. Choose another --out.")
    if root.exists() and not root.is_dir():
        raise StoreExists(f"{root}: is a file. Choose another --out.")


def _holds_other_files(root: Path) -> bool:
    """Whether there are files, but no plan, which is written before anything else: then they aren't ours to sweep."""
    ours = {LOCK_NAME} if (root / LOCK_NAME).exists() else set()
    others = [path for path in list_files(root) if path not in ours and not is_temporary(path)]
    return bool(others) and not (root / PLAN_NAME).exists()


def _settle_plan(root: Path, plan: StorePlan) -> None:
    _check_vacant(root, plan)
    if not (root / PLAN_NAME).exists():
        write_files(root, {PLAN_NAME: encode(plan)})
        return
    changed = differences(_as_stored(read_plan(root)), _as_stored(plan))
    if changed:
        raise StoreMismatch(
            f"{root}: holds an unfinished dump that was begun differently: {'; '.join(changed)}. "
            f"Repeat the first command to go on with it, or choose another --out."
        )


def _settled_part(manifest: StorePlan) -> dict[str, Any]:
    values = _as_stored(manifest)
    return {name: values[name] for name in StorePlan.__struct_fields__}


def _as_stored(plan: StorePlan) -> dict[str, Any]:
    """The plain values that reading it back gives, where a tuple among a teacher's arguments has become a list."""
    values: dict[str, Any] = msgspec.json.decode(encode(plan))
    return values


def _remove_finished_commits(root: Path) -> None:
    """What a dump needed until its manifest was written; not those of views still being added to a finished store.

    The plan goes last: as long as anything is left, it tells a second `--views +N` that the first one has finished.
    """
    if (root / MANIFEST_NAME).exists() and (is_left_over(root) or not (root / PLAN_NAME).exists()):
        paths = [path for path in list_files(root) if path.startswith(f"{COMMITS}/")]
        remove(root, sorted(paths, key=lambda path: path == PLAN_NAME))


def _read_manifest(root: Path) -> tuple[Manifest, str]:
    path = root / MANIFEST_NAME
    return decode_manifest(path.read_bytes(), where=str(path))


def _is_generated(root: Path, parent: Manifest) -> bool:
    """Whether the card is still the one that was written, so that nothing of its owner's is lost with it."""
    path = root / CARD_NAME
    return not path.exists() or path.read_bytes() == render_card(parent).encode()


def _record_name(shard: Shard) -> str:
    return f"{COMMITS}/{shard.name}.json"


def _read_commit(path: Path) -> CommitRecord | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=CommitRecord)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _is_present(root: Path, file: FileRecord) -> bool:
    path = root / file.path
    return path.is_file() and path.stat().st_size == file.bytes
