"""What came of measuring a model, as it is shown, compared and kept on disk."""

import msgspec

from softlab.evaluation.metrics.per_class import ClassFigures


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How good a model is on a source."""

    rows: int
    values: dict[str, float]
    """By the name of a metric. Left out are those that the source or its store can't tell, and those that are no finite
    number, as of a model with NaN among its weights."""

    classes: tuple[ClassFigures, ...] | None = None
    """Class by class, where that was asked for and targets are known."""
