"""Counts, sizes and durations as a person reads them."""


def format_count(count: int, noun: str) -> str:
    """`1 view`, `1,000 views`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def format_bytes(count: float) -> str:
    """`3.2 MB`; powers of 1,000, as disks are sold."""
    for unit in ["B", "kB", "MB", "GB"]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def format_duration(seconds: float) -> str:
    """`4.2 s`, `3 min 12 s`, `5 h 2 min`, from 100 hours `12 days`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 100 * 60:
        return f"{round(minutes / (24 * 60)):,} days"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
