"""Pictures of students side by side. Needs matplotlib, which is imported only when one is drawn."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from softlab.errors import InvalidOption
from softlab.evaluation.metrics.of_head import DescribedMetric, metric_named
from softlab.report.compare import ComparedStudent, Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by colour-blind people (Okabe and Ito 2008); their yellow is too light for a line on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

MAX_MARKERS = 12
"""On one curve; with more epochs only some have one."""

LEGEND_WIDTH = 30
"""Letters in a line; a longer label goes on in the next."""


def check_can_plot() -> None:
    """Raises InvalidOption unless matplotlib is installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InvalidOption(
            "plots need matplotlib, which isn't installed. Install it: pip install 'softlab[plots]', "
            "or give --no-plots."
        ) from error


def draw_learning_curves(students: Sequence[ComparedStudent]) -> bytes | None:
    """PNG of training loss by epoch, and beside it of the metric by which the best epoch is chosen, where it is known.

    None if no epoch is finished.
    """
    students = [student for student in students if student.curve]
    if not students:
        return None
    metrics = _metrics_of(students)
    figure, panels = _panels(len(metrics) + 1, students)
    for metric, panel in zip(metrics, panels, strict=False):
        panel.set(title=f"{_capital(metric.label)} on the validation source", ylabel=_axis(metric))
        for student, style in _styled(students):
            points = {point.epoch: point.values.get(metric.name) for point in student.curve}
            _draw_curve(panel, points, style, scale=metric.unit.scale)
    panels[-1].set(title="Training loss, each of its own objective", ylabel="loss")
    for student, style in _styled(students):
        _draw_curve(panels[-1], {point.epoch: point.train_loss for point in student.curve}, style)
    for panel in panels:
        _scale_epochs(panel, max(point.epoch for student in students for point in student.curve))
    return _finish(figure, students, note="Lines: means over the runs. Bands: one standard deviation.")


def draw_against_parameters(students: Sequence[ComparedStudent]) -> bytes | None:
    """PNG of the metric by which the best epoch is chosen; None if no student's is known together with its size."""
    students = [student for student in students if student.num_parameters and student.best_by in student.values]
    if not students:
        return None
    metrics = _metrics_of(students)
    figure, panels = _panels(len(metrics), students)
    for metric, panel in zip(metrics, panels, strict=True):
        for student, style in _styled(students):
            _draw_point(panel, student, metric, style)
        panel.set(title=f"{_capital(metric.label)} after the last epoch", xlabel="parameters", ylabel=_axis(metric))
        _scale_sizes(panel, [student.num_parameters for student in students if student.num_parameters])
    return _finish(figure, students, note="Points: means over the runs. Bars: one standard deviation.")


def _draw_curve(
    panel: "Axes", points: Mapping[int, Spread | None], style: Mapping[str, Any], *, scale: float = 1
) -> None:
    known = {epoch: value for epoch, value in points.items() if value is not None}
    epochs, means = list(known), [scale * value.mean for value in known.values()]
    panel.plot(epochs, means, markevery=1 + len(epochs) // MAX_MARKERS, **style)
    if any(value.std for value in known.values()):
        bands = [(scale * value.mean, scale * (value.std or 0)) for value in known.values()]
        low, high = [mean - std for mean, std in bands], [mean + std for mean, std in bands]
        panel.fill_between(epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _draw_point(panel: "Axes", student: ComparedStudent, metric: DescribedMetric, style: dict[str, Any]) -> None:
    """Where the metric is unknown, nothing but the entry in the legend."""
    assert student.num_parameters is not None
    value, scale = student.values.get(metric.name), metric.unit.scale
    mean = math.nan if value is None else scale * value.mean
    error = None if value is None or value.std is None else scale * value.std
    panel.errorbar([student.num_parameters], [mean], yerr=error, capsize=4, **(style | {"linestyle": "none"}))


def _metrics_of(students: Sequence[ComparedStudent]) -> list[DescribedMetric]:
    """Those by which their best epochs are chosen."""
    names = dict.fromkeys(student.best_by for student in students if student.best_by is not None)
    return [metric for name in names if (metric := metric_named(name)) is not None]


def _capital(label: str) -> str:
    return label[0].upper() + label[1:]


def _axis(metric: DescribedMetric) -> str:
    return f"{metric.label} ({metric.unit.symbol})"


def _styled(students: Sequence[ComparedStudent]) -> list[tuple[ComparedStudent, dict[str, Any]]]:
    """A baseline looks like its student, but dashed and hollow."""
    pairs = list(dict.fromkeys(student.without_suffix for student in students))
    styled = []
    for student in students:
        turn, number = divmod(pairs.index(student.without_suffix), len(COLOURS))
        colour = COLOURS[number]
        style = {
            "color": colour,
            "marker": MARKERS[(number + turn) % len(MARKERS)],
            "linestyle": "--" if student.is_baseline else "-",
            "markerfacecolor": "white" if student.is_baseline else colour,
            "label": _legend_text(student),
            "linewidth": 1.6,
            "markersize": 5.5,
        }
        styled.append((student, style))
    return styled


def _legend_text(student: ComparedStudent) -> str:
    """For matplotlib, which leaves out a label that begins with `_`, and sets what is between two `$` as a formula."""
    runs = f", {len(student.runs)} runs" if len(student.runs) > 1 else ""
    text = textwrap.fill(student.label + runs, LEGEND_WIDTH).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _panels(count: int, students: Sequence[ComparedStudent]) -> tuple["Figure", list["Axes"]]:
    """Empty ones side by side, with room for the legend, in inches."""
    from matplotlib.figure import Figure

    lines = [line for student in students for line in _legend_text(student).splitlines()]
    width, height = 5 * count + 0.8 + 0.085 * max(map(len, lines)), max(4.2, 0.6 + 0.22 * len(lines))
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for panel in panels:
        panel.grid(color="#DDDDDD", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _scale_epochs(panel: "Axes", last: int) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.set(xlabel="epoch", xlim=(0, last + max(0.5, last / 40)))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))


def _scale_sizes(panel: "Axes", sizes: Sequence[int]) -> None:
    """Logarithmic where sizes differ by much; written as 24 k, 1.2 M."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    ratio = max(sizes) / min(sizes)
    if ratio > 4:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if ratio < 50 else (1.0,)))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_formatter(EngFormatter())
    panel.margins(x=0.15, y=0.15)


def _finish(figure: "Figure", students: Sequence[ComparedStudent], *, note: str) -> bytes:
    """One legend beside the panels, where it covers nothing."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    if any(len(student.runs) > 1 for student in students):
        figure.supxlabel(note, fontsize="small", color="#555555")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
