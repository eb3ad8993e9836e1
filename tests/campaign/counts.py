"""What was tried in a campaign, and what was wrong: counted while it goes on, and printed as tables."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Try:
    """Something that has to end well."""

    part: str
    """Which part of the campaign it belongs to."""

    row: str
    """What is tried there: a command, or a kind of change."""

    what: str
    """All that is needed to do it again."""

    run: Callable[[], tuple[str, str | None]]
    """How it ended, in a word; and what is wrong with that, None if nothing is."""


@dataclass(kw_only=True)
class Counts:
    """Of a campaign so far."""

    ends: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By part, row and how it ended."""

    faults: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    """By part, row and kind: each try that ended so."""

    def add(self, done: Try, end: str, complaint: str | None) -> None:
        self.ends[done.part, done.row, end if complaint is None else "FAULT"] += 1
        if complaint is not None:
            kind, _, more = complaint.partition("\n")
            self.faults.setdefault((done.part, done.row, kind), []).append(f"{done.what}: {more.strip()[-600:]}")

    def faults_of(self, part: str) -> list[str]:
        return sorted(f"{row}: {kind}" for each, row, kind in self.faults if each == part)

    def __str__(self) -> str:
        """Tables in Markdown."""
        rows = sorted({(part, row) for part, row, _ in self.ends})
        ends = sorted({end for *_, end in self.ends})
        lines = [f"| part | what | tries | {' | '.join(ends)} |", "| --- " * (3 + len(ends)) + "|"]
        for part, row in rows:
            found = [self.ends[part, row, end] for end in ends]
            lines.append(f"| {part} | {row} | {sum(found):,} | {' | '.join(f'{each:,}' for each in found)} |")
        lines.append(f"| all | | {self.ends.total():,} | " + " | ".join(f"{self._all(end):,}" for end in ends) + " |")
        for (part, row, kind), examples in sorted(self.faults.items()):
            lines += ["", f"{part}, {row}: {kind} ({len(examples)} times)", f"    {examples[0]}"]
        return "\n".join(lines)

    def _all(self, end: str) -> int:
        return sum(count for (*_, each), count in self.ends.items() if each == end)


def carry_out(tries: Iterator[Try], counts: Counts, *, seconds: float) -> None:
    """One after the other, until there are none or the time is over."""
    deadline = time.monotonic() + seconds
    for each in tries:
        counts.add(each, *each.run())
        if time.monotonic() > deadline:
            return
