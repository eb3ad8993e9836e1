"""Dumps to an object store that nobody goes on with: a plan without a manifest, or what is left beside one.

There is no lock that a dump holds. It counts as given up when none of its objects was written for long, and a dump that
is begun again in the very moment of its removal finds what is missing when it reads everything back.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from softlab.manifest import MANIFEST_NAME
from softlab.remote.parallel import in_parallel
from softlab.remote.remote import ObjectInfo, Remote
from softlab.store.folder import COMMITS, PLAN_NAME

JOBS = 16


def find_given_up(remote: Remote, *, age: timedelta) -> dict[str, Sequence[ObjectInfo]]:
    """By folder, right below this one, the objects of such a dump; paths are those below its folder."""
    names = remote.list_folders()
    found = dict(in_parallel(lambda name: _objects_of(remote.within(name), age=age), names, jobs=JOBS))
    return {name: found[name] for name in names if found[name]}


def remove_given_up(remote: Remote, name: str, *, age: timedelta) -> bool:
    """False where somebody has gone on with it meanwhile. Records go first, so that none is left without its files,
    and the plan last, so that what is left of a removal that was killed is found again."""
    tree = remote.within(name)
    paths = [each.path for each in _objects_of(tree, age=age)]
    if not paths:
        return False
    records = [path for path in paths if path.startswith(f"{COMMITS}/view-")]
    others = [path for path in paths if path not in {*records, PLAN_NAME}]
    for batch in (records, others, [PLAN_NAME]):
        if batch:
            tree.delete(batch)
    return True


def _objects_of(tree: Remote, *, age: timedelta) -> Sequence[ObjectInfo]:
    """None of a dump that somebody may be at work on; of a store that is finished, what its dump left."""
    if tree.size(PLAN_NAME) is None:
        return []
    is_finished = tree.size(MANIFEST_NAME) is not None
    objects = tree.list_objects(COMMITS if is_finished else "")
    newest = max((each.modified for each in objects), default=None)
    return objects if newest is not None and datetime.now(UTC) - newest > age else []
