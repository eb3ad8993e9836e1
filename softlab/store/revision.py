"""An unfinished dump that goes on with other options than it was begun with: what was computed and is valid stays.

The records of shards that have to be computed anew go first, and the plan is replaced last. A process that is killed
between the two leaves a dump that goes on either way.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from softlab.amounts import format_count
from softlab.errors import GoesOnDifferently
from softlab.manifest import StorePlan, encode, tell_differences, with_precision
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.commit_record import CommitRecord, is_of, read_commit, record_name
from softlab.store.files import write_files
from softlab.store.folder import COMMITS
from softlab.store.known_samples import begun_files
from softlab.store.place import files_at
from softlab.store.samples import SampleTable

Stays = Callable[[Shard], bool]
"""Whether a shard's samples are the same, look the same to the teacher, and are in the same places."""

FindStaying = Callable[[StorePlan], Stays | None]
"""From the plan that a dump was begun with; None where all of it would be something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """From one plan to another."""

    begun: StorePlan
    plan: StorePlan
    changed: Sequence[str]
    """As `differences` tells."""

    stays: Stays


def revise(root: Place, revision: Revision, *, expected: SampleTable | None) -> None:
    """Replace the plan of the dump in this folder, which nobody else writes meanwhile. Warns with GoesOnDifferently."""
    begun, plan, files = revision.begun, revision.plan, files_at(root)
    found = {shard: read_commit(files, record_name(shard)) for shard in begun.grid}
    done = {shard: record for shard, record in found.items() if record is not None and is_of(record, shard)}
    staying = {shard: record for shard, record in done.items() if _is_in(plan, shard) and revision.stays(shard)}
    names = {record_name(shard) for shard in staying}
    files.remove(
        [path for path in files.paths(COMMITS) if path.startswith(f"{COMMITS}/view-") and _record_of(path) not in names]
    )
    if begun.teacher.precision != plan.teacher.precision:
        told = {record_name(shard): encode(_in_words_of(plan, begun, record)) for shard, record in staying.items()}
        write_files(root, told)
    write_files(root, begun_files(plan, expected))
    _tell(root, revision, done=len(done), staying=len(staying))


def _is_in(plan: StorePlan, shard: Shard) -> bool:
    return shard.part < plan.grid.parts_per_view and plan.grid.shard(shard.view, shard.part) == shard


def _record_of(path: str) -> str:
    """The record that a file in `commits` belongs to: it, or the hashes beside it."""
    return path.partition(".")[0] + ".json"


def _in_words_of(plan: StorePlan, begun: StorePlan, record: CommitRecord) -> CommitRecord:
    """Its samples' precision told beside the new plan's."""
    shard = with_precision(record.shard, before=begun.teacher.precision, now=plan.teacher.precision)
    return msgspec.structs.replace(record, shard=shard)


def _tell(root: Place, revision: Revision, *, done: int, staying: int) -> None:
    precision = revision.begun.teacher.precision
    kept = f" in {precision}, as the manifest will say" if precision != revision.plan.teacher.precision else ""
    stay = "none stays" if not staying else f"{staying:,} {'stays' if staying == 1 else 'stay'}{kept}"
    warnings.warn(
        f"{root}: goes on with other options than it was begun with: {tell_differences(revision.changed)}. Of "
        f"{format_count(done, 'finished shard')} {stay}, and the rest is computed anew",
        GoesOnDifferently,
        stacklevel=2,
    )
