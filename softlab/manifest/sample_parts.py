"""In how many files a table of samples lies: in one, as in format 2; of very many samples in parts, as in format 3."""

from typing import Annotated, Literal

from msgspec import Meta

from softlab.manifest.storage import FileRecord
from softlab.manifest.value_types import Positive, Record

MOST_IN_ONE_FILE = 1 << 26
"""Samples of a store of format 2: its table has 2 GB or so, and an object has 5 GiB at most."""

PART_ROWS = 1 << 24
"""Samples of a part: of so many the table is some 500 MB, which is read at a time."""


class FurtherSamplesRecord(Record, frozen=True, kw_only=True):
    """The parts of the table of samples behind the first one."""

    part_rows: Positive
    """Samples in each part, the first one too; the last one has what is left."""

    files: Annotated[tuple[FileRecord, ...], Meta(min_length=1)]


def version_for(num_samples: int) -> Literal[2, 3]:
    """The format version of a new store of so many samples."""
    return 3 if num_samples > MOST_IN_ONE_FILE else 2


def version_to_go_on(num_samples: int, begun: int | None) -> Literal[2, 3]:
    """The same where something was begun, or is finished, in another version; None where nothing was."""
    if begun == 2:
        return 2
    return 3 if begun == 3 and num_samples > PART_ROWS else version_for(num_samples)
