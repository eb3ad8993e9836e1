"""Metrics of models with several heads: each metric of each head, by a name such as `species/accuracy`."""

from collections.abc import Iterable
from dataclasses import dataclass

from softlab.evaluation.metrics import METRIC_BY_NAME
from softlab.evaluation.metrics.metric import Metric
from softlab.evaluation.metrics.needs import Need
from softlab.evaluation.metrics.unit import Unit

BETWEEN = "/"
"""The name of a head and that of a metric."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadMetric:
    """A metric of one head: what describes it, as a `Metric` has it."""

    name: str
    label: str
    column: str
    unit: Unit
    higher_is_better: bool
    needs: frozenset[Need]


DescribedMetric = type[Metric] | HeadMetric


def name_of(head: str, metric: str) -> str:
    """`species/accuracy`."""
    return f"{head}{BETWEEN}{metric}"


def split_name(name: str) -> tuple[str | None, str]:
    """The head, None for a metric of a model with one output, and the metric."""
    head, between, metric = name.rpartition(BETWEEN)
    return (head if between else None), metric


def metric_named(name: str) -> DescribedMetric | None:
    """What describes a metric; None where there is none of this name."""
    head, base = split_name(name)
    metric = METRIC_BY_NAME.get(base)
    if head is None or metric is None:
        return metric
    return HeadMetric(
        name=name,
        label=f"{head} {metric.label}",
        column=f"{head} {metric.column}",
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        needs=metric.needs,
    )


def in_order(names: Iterable[str | None]) -> list[DescribedMetric]:
    """Those of some names, in the order in which they are shown: head by head."""
    ranks = {name: rank for rank, name in enumerate(METRIC_BY_NAME)}
    known = {name for name in names if name is not None and metric_named(name) is not None}

    def place(name: str) -> tuple[str, int]:
        head, metric = split_name(name)
        return head or "", ranks[metric]

    return [metric for name in sorted(known, key=place) if (metric := metric_named(name)) is not None]
