"""Metrics in the tables of the commands."""

from collections.abc import Collection, Sequence

from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics.of_head import DescribedMetric, in_order, metric_named, split_name

NO_VALUE = "-"


def metrics_among(names: Collection[str | None]) -> list[DescribedMetric]:
    """In the order in which they are shown."""
    return in_order(names)


def has_accuracy(names: Collection[str]) -> bool:
    """Whether there is one to be shown, if only as unknown: not of vectors and scores, nor of samples of several
    classes, nor of models with several heads."""
    others = {"values", "teacher values", "label sets"}
    known = [metric for name in names if (metric := metric_named(name)) is not None]
    has_heads = any(split_name(metric.name)[0] is not None for metric in known)
    return not has_heads and not any(metric.needs & others for metric in known)


def head_of(metric: DescribedMetric) -> str:
    """`accuracy %`, `KL nats`: over a column of numbers."""
    return f"{metric.column} {metric.unit.symbol}".rstrip()


def cell_of(metric: DescribedMetric, evaluation: Evaluation | None) -> str:
    """The number below such a head."""
    value = None if evaluation is None else evaluation.values.get(metric.name)
    return NO_VALUE if value is None else metric.unit.number(value)


def explain_heads(metrics: Sequence[DescribedMetric]) -> str | None:
    """What the heads stand for that are shorter than the metric's label, as a line below the table."""
    texts = [f"{metric.column}: {metric.label}" for metric in metrics if metric.column != metric.label]
    return "; ".join(texts) + "." if texts else None
