"""Metrics in the tables of the commands."""

from collections.abc import Collection, Sequence

from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics import METRIC_BY_NAME
from softlab.evaluation.metrics.metric import Metric

NO_VALUE = "-"


def metrics_among(names: Collection[str | None]) -> list[type[Metric]]:
    """In the order in which they are shown."""
    return [metric for name, metric in METRIC_BY_NAME.items() if name in names]


def has_accuracy(names: Collection[str]) -> bool:
    """Whether there is one to be shown, if only as unknown: not of vectors and scores, nor of samples of several
    classes."""
    others = {"values", "teacher values", "label sets"}
    return not any(METRIC_BY_NAME[name].needs & others for name in names if name in METRIC_BY_NAME)


def head_of(metric: type[Metric]) -> str:
    """`accuracy %`, `KL nats`: over a column of numbers."""
    return f"{metric.column} {metric.unit.symbol}".rstrip()


def cell_of(metric: type[Metric], evaluation: Evaluation | None) -> str:
    """The number below such a head."""
    value = None if evaluation is None else evaluation.values.get(metric.name)
    return NO_VALUE if value is None else metric.unit.number(value)


def explain_heads(metrics: Sequence[type[Metric]]) -> str | None:
    """What the heads stand for that are shorter than the metric's label, as a line below the table."""
    texts = [f"{metric.column}: {metric.label}" for metric in metrics if metric.column != metric.label]
    return "; ".join(texts) + "." if texts else None
