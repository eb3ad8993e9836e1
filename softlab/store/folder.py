"""What the place of a store holds: nothing, a dump under way, a finished store, or one that views are added to."""

from collections.abc import Iterable
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import msgspec

from softlab.disk import is_temporary
from softlab.errors import StoreBusy, StoreError, StoreExists
from softlab.identity import digest_of
from softlab.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    BegunPlan,
    FileRecord,
    Manifest,
    StorePlan,
    ValuesRecord,
    decode_begun,
    decode_manifest,
    differences,
    encode,
    tell_differences,
)
from softlab.plain_files import read_plain
from softlab.remote.remote import Place
from softlab.store.digest_names import digests_name
from softlab.store.known_formats import format_named
from softlab.store.place import files_at

COMMITS = "commits"
PLAN_NAME = f"{COMMITS}/plan.json"
LOCK_NAME = f"{COMMITS}/lock"
EXPECTED_SAMPLES = f"{COMMITS}/samples.parquet"


def is_unfinished(root: Place) -> bool:
    """Whether a dump to this place was begun and not finished."""
    files = files_at(root)
    return files.has(PLAN_NAME) and not files.has(MANIFEST_NAME)


def is_adding_views(root: Place) -> bool:
    """Whether a finished store is having views added, or was, by a process that did not end well."""
    files = files_at(root)
    return files.has(PLAN_NAME) and files.has(MANIFEST_NAME) and not is_left_over(root)


def plan_of_added_views(root: Place) -> StorePlan | None:
    """The plan by which views are being added to a finished store, if any are. Raises StoreError if it can't be
    read."""
    if not is_adding_views(root):
        return None
    try:
        return read_plan(root)
    except StoreError:
        if files_at(root).has(PLAN_NAME):
            raise
        return None  # the dump has tidied up this moment


def is_left_over(root: Place) -> bool:
    """Whether a dump finished its store here, and was killed before it had tidied up."""
    files = files_at(root)
    if not (files.has(PLAN_NAME) and files.has(MANIFEST_NAME)):
        return False
    manifest, _ = _read_manifest(root)
    try:
        plan = read_plan(root)
    except StoreError:
        if files.has(PLAN_NAME):
            raise
        return True  # another process has tidied up this moment
    return (plan.parent, plan.views.num_views) == (manifest.parent, manifest.views.num_views)


def find_finished(root: Place, plan: StorePlan) -> Manifest | None:
    """The manifest if this very dump is already finished; None if there is nothing finished here, or the store that
    this plan adds views to.

    Raises StoreExists if what is finished was dumped differently; but a store of half precision is also that of a dump
    in float32, as a message about rows that overflow may have asked for it.
    """
    files = files_at(root)
    if not files.has(MANIFEST_NAME) or find_parent(root, plan) is not None:
        return None
    manifest, _ = _read_manifest(root)
    changed = differences_but_versions(manifest, plan)
    if changed and differences_but_versions(manifest, in_precision_of(manifest, plan)):
        raise StoreExists(
            f"{root}: already holds a finished store that was made differently: {tell_differences(changed)}. "
            f"Choose another folder, or remove that one; `dump.views` with more than it has adds views to it."
        )
    if files.paths(COMMITS):
        with suppress(StoreBusy), files.hold(LOCK_NAME):  # who finishes it now tidies up itself
            remove_finished_commits(root)
    return manifest


def find_parent(root: Place, plan: StorePlan) -> Manifest | None:
    """The finished store here, if the plan adds views to it."""
    if plan.parent is None or not files_at(root).has(MANIFEST_NAME):
        return None
    manifest, digest = _read_manifest(root)
    adds_views = plan.views.num_views > manifest.views.num_views  # else it is a conversion of the store into itself
    return manifest if plan.parent == digest and adds_views else None


def check_vacant(root: Place, plan: StorePlan) -> None:
    if find_parent(root, plan) is not None:
        return
    if files_at(root).has(MANIFEST_NAME):
        raise StoreExists(f"{root}: already holds a finished store. Choose another folder, or remove that one.")
    if _holds_other_files(root):
        raise StoreExists(f"{root}: is a folder with other files in it. Choose another folder.")
    if isinstance(root, Path):
        file = next((path for path in (root, *root.parents) if path.exists() and not path.is_dir()), None)
        if file is not None:
            raise StoreExists(f"{file}: is a file. Choose another folder.")


def read_plan(root: Place) -> StorePlan:
    """Of an unfinished store. Raises StoreError if it can't be read."""
    return read_begun(root).plan


def read_begun(root: Place) -> BegunPlan:
    """The same, with what else was written down then."""
    try:
        return decode_begun(_read_bytes(root, PLAN_NAME))
    except (OSError, ValueError) as error:
        next_step = f"Remove {root} and dump again."
        if files_at(root).has(MANIFEST_NAME):
            next_step = (
                f"The store itself is whole, views were being added to it: go on with the softlab that began, or "
                f"remove {root / COMMITS} and add them again."
            )
        raise StoreError(f"{root / PLAN_NAME}: {error}. {next_step}") from error


def count_finished_shards(root: Place) -> int:
    """Of an unfinished store, without taking hold of it."""
    return len(names_of_commits(root))


def names_of_commits(root: Place) -> list[str]:
    """Of the records that are there, in the order of the grid."""
    if isinstance(root, Path):
        try:
            return sorted(path.relative_to(root).as_posix() for path in (root / COMMITS).glob("view-*.json"))
        except FileNotFoundError:  # another process finished the store while the folder was read
            return []
    return [path for path in files_at(root).paths(COMMITS) if fnmatch(path, f"{COMMITS}/view-*.json")]


def differences_but_versions(found: StorePlan, plan: StorePlan) -> list[str]:
    """In what two plans differ, apart from the versions of softlab and its libraries, and from how the store came to
    its number of views."""
    theirs, ours = as_stored(found.plan if isinstance(found, Manifest) else found), as_stored(plan)
    for name in ("softlab_version", "libraries", *(["parent"] if plan.parent is None else [])):
        theirs[name] = ours[name]
    return differences(theirs, ours)


def in_precision_of(found: StorePlan, plan: StorePlan) -> StorePlan:
    """The plan in the precision of what is there already, if it is one in float32."""
    if plan.teacher.precision != "float32":
        return plan
    return msgspec.structs.replace(
        plan, teacher=msgspec.structs.replace(plan.teacher, precision=found.teacher.precision)
    )


def as_stored(plan: StorePlan) -> dict[str, Any]:
    """The plain values that reading it back gives, where a tuple among a teacher's arguments has become a list; with
    the coding of values also where a manifest leaves it out."""
    values: dict[str, Any] = msgspec.json.decode(encode(plan))
    for told, output in zip(values["outputs"], plan.outputs, strict=True):
        if isinstance(output, ValuesRecord):
            told["coding"] = output.coding
    return values


def written_by(plan: StorePlan, paths: Iterable[str]) -> list[str]:
    """Those of some paths in a store's folder that a dump of this plan may have written before its manifest."""
    format, views = format_named(plan.storage.format), range(plan.views.num_views)
    own = {format.path_of(field, shard) for shard in plan.grid for field in plan.storage.fields}
    own |= {digests_name(view) for view in views}
    return [path for path in paths if path in own or path.startswith(f"{COMMITS}/") or is_temporary(path)]


def layout_records(plan: StorePlan) -> tuple[FileRecord, ...]:
    """Of the files that describe the whole of a plan's store: they are renewed just before its manifest."""
    return tuple(make_layout(plan))


def make_layout(plan: StorePlan) -> dict[FileRecord, bytes]:
    """The bytes of those files, by their records."""
    files = format_named(plan.storage.format).layout_files(plan)
    return {FileRecord(path=path, bytes=len(data), blake3=digest_of(data)): data for path, data in files.items()}


def remove_finished_commits(root: Place) -> None:
    """What a dump needed until its manifest was written; not those of views still being added to a finished store.

    The plan goes last: as long as anything is left, it tells a second `views = +N` that the first one has finished.
    """
    files = files_at(root)
    if files.has(MANIFEST_NAME) and (is_left_over(root) or not files.has(PLAN_NAME)):
        paths = sorted(files.paths(COMMITS), key=lambda path: path == PLAN_NAME)
        files.remove(paths)


def _read_manifest(root: Place) -> tuple[Manifest, str]:
    return decode_manifest(_read_bytes(root, MANIFEST_NAME), where=str(root / MANIFEST_NAME))


def _read_bytes(root: Place, path: str) -> bytes:
    """Raises OSError where it can't be read, also where it is missing."""
    if isinstance(root, Path):
        return read_plain(root / path, max_bytes=MAX_MANIFEST_BYTES)
    data = files_at(root).read(path, max_bytes=MAX_MANIFEST_BYTES)
    if data is None:
        raise FileNotFoundError(f"{root / path} is missing")
    return data


def _holds_other_files(root: Place) -> bool:
    """Whether there are files, but no plan, which is written before all but the samples: then they aren't ours to
    sweep."""
    files = files_at(root)
    if files.has(PLAN_NAME):
        return False
    return any(path not in (LOCK_NAME, EXPECTED_SAMPLES) and not is_temporary(path) for path in files.paths())
