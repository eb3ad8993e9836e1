"""What of an unfinished dump stays when it goes on with other options: shards of the same samples that look the same to
the teacher. In which precision they were computed is told in the manifest.

So can be added: `source.skip_unreadable`, `input.channels`, `input.size`, `input.background`, `input.value_range` and
`device.autocast = none`; and a few samples may be gone. All else would be another store.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec

from softlab.identity import keys_fingerprint
from softlab.manifest import StorePlan, differences
from softlab.modalities.modality import find_same_input
from softlab.shards import Shard
from softlab.sources.source import Source
from softlab.store.folder import EXPECTED_SAMPLES, as_stored, in_precision_of
from softlab.store.revision import Stays
from softlab.store.samples import decode_samples

MOST_GONE = 100
"""Samples, and one in ten at most: with more of them gone it is taken for another data set, and refused."""


def find_staying(begun: StorePlan, plan: StorePlan, source: Source, out: Path) -> Stays | None:
    """Which shards stay; None where the new plan is that of something else, or views are added."""
    looks_same = find_same_input(begun.inputs[0], plan.inputs[0], is_random=bool(plan.views.transforms))
    if looks_same is None or plan.parent is not None or _differs_otherwise(begun, plan):
        return None
    is_same_source = begun.source == plan.source
    first_moved = len(source) if is_same_source else _find_first_moved(begun, plan, source, out)
    if first_moved is None:
        return None
    is_same_input = begun.inputs == plan.inputs
    if plan.views.mixing is not None and not (is_same_source and is_same_input):
        return lambda _: False  # any other sample may be mixed into a view
    field = plan.inputs[0].field

    @cache  # the views of a sample are made of the same
    def look_same(start: int, stop: int) -> bool:
        return is_same_input or all(looks_same(source.read(index).fields[field]) for index in range(start, stop))

    def stays(shard: Shard) -> bool:
        return shard.stop <= first_moved and look_same(shard.start, shard.stop)

    return stays


def _differs_otherwise(begun: StorePlan, plan: StorePlan) -> bool:
    """Whether more than precision, input and samples differ."""
    as_begun = msgspec.structs.replace(
        in_precision_of(begun, plan),
        inputs=begun.inputs,
        source=msgspec.structs.replace(begun.source, name=plan.source.name, chosen_from=plan.source.chosen_from),
    )
    return bool(differences(as_stored(begun), as_stored(as_begun)))


def _find_first_moved(begun: StorePlan, plan: StorePlan, source: Source, out: Path) -> int | None:
    """The index of the first sample that has another key now; None unless some samples are gone and all others are
    there, in their order."""
    path = out / EXPECTED_SAMPLES
    skipped_before, skipped = ({each.key for each in one.source.skipped} for one in (begun, plan))
    gone = begun.source.num_samples - len(source)
    explained = len(skipped - skipped_before)
    unexplained = gone - explained  # deleted, as messages ask for too
    most_gone = min(MOST_GONE, max(begun.source.num_samples // 10, 1))
    if not skipped_before <= skipped or not 0 <= unexplained <= most_gone:
        return None
    if not path.exists():
        return None
    try:
        keys = decode_samples(path.read_bytes(), num_samples=begun.source.num_samples).keys
    except ValueError:  # of the new plan already, as a process was killed before it had replaced the old one
        return _first_other(source.keys, decode_samples(path.read_bytes(), num_samples=len(source)).keys)
    left = set(source.keys)
    if keys_fingerprint([key for key in keys if key in left]) != plan.source.keys_fingerprint:
        return None
    return _first_other(source.keys, keys)


def _first_other(ours: Sequence[str], theirs: Sequence[str]) -> int:
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((index for index, (one, other) in pairs if one != other), len(ours))
