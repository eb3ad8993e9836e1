"""The fields of a sample as numbers and categories: what is wrong with one, and how it becomes numbers of a model."""

# Shape letters: D numbers of a flat sample, or C channels of one that has L steps; R rows: 1 of a flat sample, L steps.

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from softlab.modalities.vectors.inputs import VectorInput
from softlab.sources.source import Raw

Row = Mapping[str, Raw]
"""The fields of one sample."""

LARGEST_FLOAT = float(np.finfo(np.float32).max)


def with_fields(options: VectorInput, row: Row) -> VectorInput:
    """Where the input names no field: what holds numbers are numbers, all else are categories."""
    if options.fields:
        return options
    numbers = tuple(name for name, raw in row.items() if isinstance(raw, np.ndarray))
    return replace(options, numbers=numbers, categories=tuple(name for name in row if name not in numbers))


def problem_of(row: Row, options: VectorInput) -> str:
    """Why this input can't read a sample, as the rest of a sentence; empty where it can."""
    options = with_fields(options, row)
    for place, name in enumerate(options.numbers):
        problem = _problem_of_numbers(row[name], size=options.sizes[place] if options.sizes else None)
        if problem:
            return f"its field {name!r} {problem}"
    for name in options.categories:
        level = category_of(row[name])
        if level is None:
            return f"its field {name!r} is read as a category, and holds {_kind_of(row[name])}"
        if options.unseen == "refuse" and options.known and level not in options.levels[name]:
            return (
                f"its field {name!r} holds the category {level!r}, which no sample had when the input was settled. "
                f"Say `input.unseen = zeros` to read such as none of the known ones"
            )
    if options.is_settled and np.abs(_scaled(row, options)).max(initial=0) > LARGEST_FLOAT:
        return "has numbers that are too large for float32, even standardised"
    return ""


def _problem_of_numbers(raw: Raw, *, size: int | None) -> str:
    if not _are_numbers(raw):
        return f"is read as numbers, and holds {_kind_of(raw)}"
    values_D = np.asarray(raw, dtype=np.float64)
    if values_D.ndim > 1:
        return f"has {values_D.ndim} axes. Give each channel as a field of its own"
    if not values_D.size:
        return "is empty"
    odd_D = ~np.isfinite(values_D.reshape(-1))
    if odd_D.any():
        place = int(odd_D.argmax())
        where = f" at place {place:,}" if values_D.ndim else ""
        return f"holds {values_D.reshape(-1)[place]}{where}, and a model takes finite numbers"
    if size is not None and values_D.size != size:
        return f"has {values_D.size:,} numbers, and other samples have {size:,}"
    return ""


def numbers_of(row: Row, options: VectorInput) -> NDArray[np.float64]:
    """[R, D] or [R, C], as statistics are taken of them: not standardised. Of a sample without a problem."""
    columns = [np.asarray(row[name], dtype=np.float64).reshape(-1) for name in options.numbers]
    if options.layout == "channels":
        return np.stack(columns, axis=1)
    return np.concatenate(columns)[None] if columns else np.zeros((1, 0))


def sample_of(row: Row, options: VectorInput) -> NDArray[np.float32]:
    """[D] or [C, L] as a model is given it, by a settled input."""
    scaled = _scaled(row, options)
    one_hot = np.concatenate([np.zeros(0), *(_one_hot(row[name], options.levels[name]) for name in options.categories)])
    both = np.concatenate([scaled, np.tile(one_hot, (len(scaled), 1))], axis=1).astype(np.float32)
    return both.T if options.layout == "channels" else both[0]


def _scaled(row: Row, options: VectorInput) -> NDArray[np.float64]:
    values = numbers_of(row, options)
    if not options.means:
        return values
    with np.errstate(over="ignore"):
        scaled: NDArray[np.float64] = (values - np.array(options.means)) / np.array(options.deviations)
        return scaled


def _one_hot(raw: Raw, levels: Mapping[str, int]) -> NDArray[np.float64]:
    """All zeros for an unknown one."""
    one_hot, place = np.zeros(len(levels)), levels.get(str(category_of(raw)))
    if place is not None:
        one_hot[place] = 1
    return one_hot


def category_of(raw: Raw) -> str | None:
    """A text, or a whole number as one; None for what is no category."""
    if isinstance(raw, str):
        return raw
    is_one = isinstance(raw, np.ndarray) and raw.size == 1 and raw.dtype.kind in "iub"
    return str(np.asarray(raw).item()) if is_one else None


def _are_numbers(raw: Raw) -> bool:
    return isinstance(raw, np.ndarray) and raw.dtype.kind in "iufb"


def _kind_of(raw: Raw) -> str:
    if isinstance(raw, str):
        return f"the text {raw[:40]!r}"
    if isinstance(raw, tuple):
        return "several texts"
    if isinstance(raw, bytes):
        return "encoded data"
    return f"{raw.size:,} numbers of type {raw.dtype}"
