"""The arrays of vectors in the coding `int8_rotated`, by name; see `rotated_values`."""

from softlab.labels.int8_steps import SCALE_DTYPE

NUMBERS_AN_OUTLIER = 64
"""A vector has an outlier for so many of its numbers, or part of them."""


def arrays_of_rotated(row_shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and row shape of each, of rows of such a shape. Its last axis is that of a vector; a number alone is a
    vector of one."""
    width, before = (row_shape or (1,))[-1], row_shape[:-1]
    outliers = (*before, -(-width // NUMBERS_AN_OUTLIER))
    return {
        "values": ("int8", row_shape),
        "scale": (SCALE_DTYPE, before),
        "outliers": ("float32", outliers),
        "outlier_ids": ("uint16" if width <= 1 << 16 else "uint32", outliers),
    }
