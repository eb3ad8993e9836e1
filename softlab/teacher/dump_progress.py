"""What is told of a dump under way."""

from collections.abc import Callable
from dataclasses import dataclass

from softlab.amounts import format_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class DumpProgress:
    """How far a dump is; of several processes, all together."""

    rows: int
    """Computed by now, those of earlier runs included."""

    total_rows: int
    bytes_written: int
    """By this run."""

    unit = "rows"

    @property
    def done(self) -> int:
        return self.rows

    @property
    def total(self) -> int:
        return self.total_rows

    @property
    def note(self) -> str:
        return f"{format_bytes(self.bytes_written)} written"


OnProgress = Callable[[DumpProgress], None]
