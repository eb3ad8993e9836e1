"""Scores of candidates that were computed elsewhere: each row must have as many as its sample has candidates."""

# Shape letters: N samples, V views.

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, SourceError, suggest
from softlab.models.outputs import parse_output
from softlab.predictions.rows import PredictedRows
from softlab.sources.source import Sample, Source
from softlab.teacher.options import DumpOptions


def with_fewer_classes(options: DumpOptions, rows: PredictedRows) -> DumpOptions:
    """Of an import of scores: a row has as many classes as its sample has candidates. Raises InvalidOption for
    predictions that are no scores."""
    if rows.kind == "values":
        return options
    if rows.kind != "logits" or rows.is_top_k:
        raise InvalidOption(
            f"predictions.candidate_fields: scores of candidates are raw ones, and these are {rows.kind}. Say "
            f"`predictions.kind = logits`, or leave `predictions.candidate_fields` out."
        )
    return replace(options, valid=True, output=(f"{parse_output(options.output[0]).name}:classes",))


def check_candidates(rows: PredictedRows, source: Source, row_VN: NDArray[np.int64], *, fields: Sequence[str]) -> None:
    """Reads each sample once. Raises SourceError naming one whose candidates are more or fewer than its scores,
    InvalidOption for a field that isn't there."""
    unknown = [name for name in fields if name not in source.field_names]
    if unknown:
        raise InvalidOption(
            f"predictions.candidate_fields: {source.name} has no field {unknown[0]!r}. "
            f"{suggest(unknown[0], source.field_names)} Name its column as `source.fields.{unknown[0]}`."
        )
    scores_NV = np.isfinite(rows.numbers).reshape(len(rows), -1).sum(axis=1)[row_VN.T]
    for index, of_views in enumerate(scores_NV.tolist()):
        count = _count(source.read(index), fields)
        scores = next((each for each in of_views if each != count), count)
        if scores != count:
            raise SourceError(
                f"{rows.where}: the sample {source.keys[index]!r} of {source.name} has {count:,} candidates, and its "
                f"row {scores:,} scores. Give each candidate one, in their order."
            )


def _count(sample: Sample, fields: Sequence[str]) -> int:
    values = [sample.fields[name] for name in fields]
    return sum(len(value) if isinstance(value, tuple) else 1 for value in values)
