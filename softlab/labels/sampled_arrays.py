"""The arrays of rows that are samples of their distributions, by name, see `sampled_coding`; and of stored tokens."""

from collections.abc import Mapping

ROW_ARRAYS: Mapping[str, str] = {"num_head": "uint8", "num_drawn": "uint8", "tail": "uint8", "entropy": "uint8"}
"""One number a row."""

GAPS = "gaps"

ENTRY_ARRAYS: Mapping[str, str | None] = {"class_ids": None, GAPS: "uint8"}
"""One number an entry, one row behind the other. Class ids are uint16 up to 65,536 classes, else uint32."""

SAMPLE_ARRAYS: Mapping[str, str] = {"entries": "uint32"}
"""One number a sample: the entries of all of its rows."""


TAIL_STEPS = 64
"""Of 1/N: an error of 1 / 2,048 of the mass at N = 16 at most, where the sample's own noise is of about 1/6."""


def token_dtype(vocabulary: int) -> str:
    """Of the ids of tokens below `vocabulary`."""
    return "uint16" if vocabulary <= 1 << 16 else "uint32"
