"""What came of measuring a model, as it is shown, compared and kept on disk."""

import msgspec

from softlab.evaluation.metrics import METRIC_BY_NAME
from softlab.evaluation.metrics.of_head import metric_named
from softlab.evaluation.metrics.per_class import ClassFigures


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How good a model is on a source: what `evaluate_model` gives, and each epoch of a training run."""

    rows: int
    values: dict[str, float]
    """By the name of a metric; of a model with several heads by HEAD/METRIC. Left out are those that the source or its
    store can't tell, and those that are no finite number, as of a model with NaN among its weights."""

    classes: tuple[ClassFigures, ...] | None = None
    """Class by class, where that was asked for and targets are known."""

    outputs: dict[str, dict[str, float]] | None = None
    """Of models with several outputs a sample: the figures of each, by its name."""

    def __repr__(self) -> str:
        by_class = "" if self.classes is None else f"{len(self.classes):,} classes one by one"
        figures = [f"{self.rows:,} rows", *(self.figure(name) for name in self.values), by_class]
        return f"Evaluation({', '.join(filter(None, figures))})"

    def without_targets(self) -> "Evaluation":
        """What hard targets don't count for."""
        kept = {name: value for name, value in self.values.items() if not _needs_targets(name)}
        return Evaluation(rows=self.rows, values=kept, outputs=self.outputs)

    def with_value(self, name: str, value: float) -> "Evaluation":
        """With one more metric."""
        values = {**self.values, name: value}
        ordered = {each: values[each] for each in METRIC_BY_NAME if each in values}
        return msgspec.structs.replace(self, values=ordered | values)

    def figure(self, name: str) -> str:
        """`accuracy 79.14%`, of a metric that was measured."""
        metric, value = metric_named(name), self.values[name]
        return f"{name} {value:g}" if metric is None else f"{metric.label} {metric.unit.text(value)}"


def _needs_targets(name: str) -> bool:
    metric = metric_named(name)
    return metric is not None and "targets" in metric.needs
