"""Stores whose table of samples lies in several files, as of many millions of samples: here of a few."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from softlab.manifest import StorePlan, sample_parts, version_for
from softlab.store import reader, sample_columns, samples

GROUP_ROWS, PART_ROWS, MOST_IN_ONE_FILE = 2, 4, 6


@contextmanager
def few_samples_are_very_many(*, large_table: int = 1 << 22) -> Iterator[None]:
    """`large_table` is from how many samples on the table isn't held in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "GROUP_ROWS", GROUP_ROWS)
        patch.setattr(sample_columns, "GROUP_ROWS", GROUP_ROWS)
        patch.setattr(sample_parts, "PART_ROWS", PART_ROWS)
        patch.setattr(sample_parts, "MOST_IN_ONE_FILE", MOST_IN_ONE_FILE)
        patch.setattr(reader, "LARGE_TABLE", large_table)
        yield


def in_its_format(plan: StorePlan) -> StorePlan:
    """The plan in the format that a new store of so many samples has."""
    return msgspec.structs.replace(plan, format_version=version_for(plan.source.num_samples))
