"""A figure of validation that is good enough, such as `accuracy>=0.92`."""

import math
import re
from dataclasses import dataclass

from softlab.errors import InvalidOption, suggest
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics import METRIC_BY_NAME

PATTERN = re.compile(r"\s*(?P<metric>\w+)\s*(?P<sign>>=|<=)\s*(?P<value>[^\s]+)\s*")


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetMetric:
    """The name of a metric, and what it is to reach, in the metric's own unit: a share is between 0 and 1."""

    metric: str
    value: float

    def __str__(self) -> str:
        return f"{self.metric}{_sign(self.metric)}{self.value:g}"

    def is_reached(self, evaluation: Evaluation | None) -> bool:
        """False where it was not measured, as of a model whose figures are no numbers."""
        if evaluation is None or self.metric not in evaluation.values:
            return False
        found = evaluation.values[self.metric]
        return found >= self.value if METRIC_BY_NAME[self.metric].higher_is_better else found <= self.value


def read_target(text: str) -> TargetMetric:
    """`METRIC>=VALUE`, or `METRIC<=VALUE` of a metric of which less is better. Raises InvalidOption."""
    found = PATTERN.fullmatch(text)
    if found is None:
        raise InvalidOption(f"advise.until = {text}: expected METRIC>=VALUE or METRIC<=VALUE, such as accuracy>=0.92.")
    metric, sign = found["metric"], found["sign"]
    if metric not in METRIC_BY_NAME:
        raise InvalidOption(
            f"advise.until = {text}: no such metric. {suggest(metric, list(METRIC_BY_NAME))} Change `advise.until`."
        )
    if sign != _sign(metric):
        raise InvalidOption(
            f"advise.until = {text}: {_better(metric)} {metric} is better. Write {metric}{_sign(metric)}VALUE."
        )
    try:
        value = float(found["value"])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidOption(
            f"advise.until = {text}: {found['value']} is no number. Write one, such as {metric}{sign}0.9."
        )
    if METRIC_BY_NAME[metric].unit.symbol == "%" and not 0 <= value <= 1:
        raise InvalidOption(f"advise.until = {text}: expected a share, 0 to 1. Write {metric}{sign}{value / 100:g}.")
    return TargetMetric(metric=metric, value=value)


def _sign(metric: str) -> str:
    return ">=" if METRIC_BY_NAME[metric].higher_is_better else "<="


def _better(metric: str) -> str:
    return "more" if METRIC_BY_NAME[metric].higher_is_better else "less"
