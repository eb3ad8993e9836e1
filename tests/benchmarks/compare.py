"""What got worse since an earlier quick run: by more than the noise of both, and by more than a machine's mood."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.figures import HEADERS, TITLE, Figure, sizes_line, table_of
from tests.benchmarks.report import TITLE as REPORT_TITLE
from tests.benchmarks.report import Report, describe_machine, section_lines

MACHINE = re.compile(r"\S+, \d+ cores, .*; Python ")

FLOOR = 0.04
"""Of a ratio: two runs of the same code differ by as much, however little the rounds of each scatter."""


@dataclass(kw_only=True, slots=True)
class Comparison:
    """Names of figures, in the order of the new ones."""

    worse: list[str] = field(default_factory=list)
    better: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def compare(before: Mapping[str, Figure], now: Mapping[str, Figure]) -> Comparison:
    found = Comparison(gone=[what for what in before if what not in now])
    for what, figure in now.items():
        if what not in before:
            found.new.append(what)
        elif not differ(before[what], figure):
            found.same.append(what)
        elif (figure.value > before[what].value) == (figure.better == "higher"):
            found.better.append(what)
        else:
            found.worse.append(what)
    return found


def differ(before: Figure, now: Figure) -> bool:
    """Whether two figures are further apart than both scatter. Ratios are compared by theirs, so as logarithms."""
    return abs(math.log(now.value / before.value)) > max(before.noise + now.noise, FLOOR)


def show_comparison(report: Report, before: Mapping[str, Figure], *, where: str) -> Comparison:
    """A table of all figures, what changed first."""
    now, found = report.figures, compare(before, report.figures)
    rows = [
        [word, what, _shown(before.get(what)), _shown(now.get(what))]
        for word, names in [
            ("worse", found.worse),
            ("better", found.better),
            ("new", found.new),
            ("gone", found.gone),
            ("same", found.same),
        ]
        for what in names
    ]
    report.section(
        "Since then",
        f"Ratios of this run beside those of {where}, and between what they lay in their rounds. Worse and better: by "
        f"more than the width of both together, and by more than {FLOOR:.0%}.",
        ["change", "what", "then", "now"],
        rows,
    )
    return found


def machine_of(results: Path | Report) -> str:
    """Processor, cores and GPU; of a file those of its figures, which stand behind all others."""
    lines = [results.machine] if isinstance(results, Report) else reversed(results.read_text().splitlines())
    return next((line.partition(";")[0] for line in lines if MACHINE.match(line)), "unknown")


def record(path: Path, figures: Mapping[str, Figure], *, sizes: str) -> None:
    """In place of the section of a file of results, or as its last one; of a file that isn't there as the only one."""
    text = path.read_text() if path.is_file() else f"{REPORT_TITLE}\n"
    before, _, rest = text.partition(f"## {TITLE}\n")
    _, mark, behind = rest.partition("\n## ")
    lines = section_lines(
        TITLE, "\n\n".join([EXPLANATION, sizes_line(sizes), describe_machine()]), HEADERS, table_of(figures)
    )
    path.write_text(before.rstrip("\n") + "\n\n" + "\n".join(lines) + (f"\n## {behind}" if mark else ""))


EXPLANATION = (
    "Ratios of little data, and between what they lay in their rounds (of five or more but for the two extremes), as "
    "`make bench-quick` measures them: it compares its own with these. Of so little data what a dump, an import or an "
    "epoch costs once weighs far more than in the tables above."
)


def _shown(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.value:.3f} ({figure.lowest:.3f} to {figure.highest:.3f})"
