"""The only door to Parquet files: whoever wrote one, it can't end the process, and what is wrong with it is one error.

Arrow trusts files more than is good. Of 12,400 files with changed bytes, Arrow 26 ended the process for 5: where a
footer counts other levels than its schema has, "Definition level histogram size mismatch" is thrown in a destructor.
So the counts are compared here before Arrow builds anything of them. What Arrow raises otherwise is of many classes,
some of which nobody expects of a file (MemoryError, TypeError, NotImplementedError), and some damage isn't found before
a cell is used (text that isn't UTF-8, a struct whose fields end early). So every column is validated as soon as it is
read, and all of it is a ValueError.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from softlab.errors import printable
from softlab.parquet_pages import TAIL_BYTES, check_level_counts, footer_bytes


class ForeignParquet:
    """A Parquet file on a disk, or the bytes of one, which may be mapped; a context manager.

    Whatever is wrong with the file is a ValueError, in every method; a disk that fails is an OSError. Columns that are
    said to be `coded` are read as their different values and which of them each row has.
    """

    def __init__(self, file: Path | bytes | mmap, *, coded: Sequence[str] = ()) -> None:
        with _told_as_value_errors():
            source = pa.OSFile(os.fsencode(file)) if isinstance(file, Path) else pa.BufferReader(file)
            self._file = pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=list(coded))
            self.metadata = self._file.metadata
            self.schema = self._file.schema_arrow
            """Arrow's: the types of the columns."""

            check_level_counts(_footer(file), self.metadata.schema)

    def __enter__(self) -> "ForeignParquet":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close(force=True)

    @property
    def num_rows(self) -> int:
        return int(self.metadata.num_rows)

    def read(self, columns: Sequence[str]) -> Any:
        """Some columns of all rows, as an Arrow table."""
        with _told_as_value_errors():
            return _validated(self._file.read(columns=list(columns)), rows=self.num_rows)

    def read_group(self, group: int, columns: Sequence[str]) -> Any:
        """Some columns of one row group, as an Arrow table."""
        with _told_as_value_errors():
            found = self._file.read_row_group(group, columns=list(columns))
            return _validated(found, rows=self.metadata.row_group(group).num_rows)

    def blocks(self, column: str, *, rows: int) -> Iterator[Any]:
        """One column, so many rows at a time: Arrow would hold all of it, twice, beside what is made of it."""
        with _told_as_value_errors():
            batches = self._file.iter_batches(rows, columns=[column])
        left = self.num_rows
        while True:
            with _told_as_value_errors():
                batch = next(batches, None)
                block = None if batch is None else _validated(batch).column(0)
            left -= 0 if block is None else len(block)
            if left < 0 or (block is None and left):
                raise ValueError(f"its footer says {self.num_rows:,} rows, and its column {column!r} has others")
            if block is None:
                return
            yield block


def _footer(file: Path | bytes | mmap) -> bytes:
    """The end of a file that the process may hold: Arrow holds it as well."""
    if not isinstance(file, Path):
        return footer_bytes(file)
    with file.open("rb") as opened:
        size = opened.seek(0, 2)
        opened.seek(max(size - TAIL_BYTES, 0))
        tail = opened.read()
        opened.seek(max(size - TAIL_BYTES - int.from_bytes(tail[:4], "little"), 0))
        return footer_bytes(opened.read())


def _validated(found: Any, *, rows: int | None = None) -> Any:
    """Raises ValueError for other than so many rows, as pages may hold that don't belong to a footer."""
    found.validate(full=True)
    if rows is not None and len(found) != rows:
        raise ValueError(f"its footer says {rows:,} rows, and it holds {len(found):,}")
    return found


@contextmanager
def _told_as_value_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise _told(error) from error  # Arrow's, for damaged pages
    except (pa.ArrowException, LookupError, TypeError, RuntimeError, MemoryError) as error:
        raise _told(error) from error


def _told(error: BaseException) -> ValueError:
    """The first line, without signs that a terminal obeys: it may quote bytes of the file."""
    return ValueError(printable((str(error) or type(error).__name__).partition("\n")[0].rstrip(".")))
