"""One line of the table of a GPU."""

from dataclasses import dataclass

HEADERS = ("part", "what", "a second", "relative", "bar", "reached", "GPU busy", "peak memory")
NONE = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one way of working was found to do; or a sentence, of a part that gave nothing else."""

    part: str
    what: str
    rate: float | None = None
    relative: float | None = None
    """To the way that the line before it names as 1."""

    at_least: float | None = None
    """The bar of `relative`."""

    busy: float | None = None
    """Percent of the time that the GPU was at work."""

    peak_bytes: int | None = None
    """Of the GPU's memory, beyond what was there before."""

    has_failed: bool = False

    def cells(self) -> list[str]:
        """By HEADERS."""
        is_reached = None if self.at_least is None or self.relative is None else self.relative >= self.at_least
        return [
            self.part,
            self.what,
            NONE if self.rate is None else f"{self.rate:,.0f}",
            NONE if self.relative is None else f"{self.relative:.3f}",
            NONE if self.at_least is None else f"at least {self.at_least:g}",
            NONE if is_reached is None else "yes" if is_reached else "no",
            NONE if self.busy is None else f"{self.busy:.0f} %",
            NONE if self.peak_bytes is None else f"{self.peak_bytes / 1e6:,.0f} MB",
        ]
