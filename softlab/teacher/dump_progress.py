"""What is told of a dump under way."""

from collections.abc import Callable
from dataclasses import dataclass

from softlab.amounts import format_bytes, format_count


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpProgress:
    """How far a dump is; of several processes, all together."""

    rows: int
    """Computed by now, those of earlier runs included."""

    total_rows: int
    bytes_written: int
    """By this run; 0 where workers of an engine write."""

    num_workers: int | None = None
    """Of an engine, that are at it now; None without one."""

    unit = "rows"

    @property
    def done(self) -> int:
        return self.rows

    @property
    def total(self) -> int:
        return self.total_rows

    @property
    def note(self) -> str:
        if self.num_workers is not None:
            return format_count(self.num_workers, "worker")
        return f"{format_bytes(self.bytes_written)} written"


OnProgress = Callable[[DumpProgress], None]
