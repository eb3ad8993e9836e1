"""What is shown of work under way, in one line."""

from dataclasses import dataclass

from softlab.amounts import format_bytes, format_duration


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """How far the work is at one moment."""

    done: int
    total: int | None
    """None where nobody knows."""

    unit: str
    """Of both, in the plural: rows, steps; `bytes` are written as sizes."""

    note: str
    rate: float | None
    """A second; None as long as too little is known."""

    @property
    def share(self) -> float | None:
        """Of the total, 0 to 1."""
        return self.done / self.total if self.total else None

    @property
    def text(self) -> str:
        """`1,200/5,000 rows (24%), 310 rows/s, 12 s left  epoch 2`."""
        of = "" if self.share is None else f"/{self._amount(self.total or 0)}"
        unit = "" if self.unit == "bytes" else f" {self.unit}"
        parts = [f"{self._amount(self.done)}{of}{unit}" + ("" if self.share is None else f" ({self.share:.0%})")]
        if self.rate:
            parts.append(f"{self._rate(self.rate)}{unit}/s")
            if self.total and self.done < self.total:
                parts.append(f"{_duration((self.total - self.done) / self.rate)} left")
        return ", ".join(parts) + (f"  {self.note}" if self.note else "")

    def _amount(self, count: int) -> str:
        return format_bytes(count) if self.unit == "bytes" else f"{count:,}"

    def _rate(self, rate: float) -> str:
        if self.unit == "bytes":
            return format_bytes(rate)
        return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _duration(seconds: float) -> str:
    """An estimate has no tenths."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else format_duration(whole)
