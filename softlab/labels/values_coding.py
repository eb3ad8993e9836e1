"""Between values in memory (a feature, an embedding, scores) and the arrays that a store holds.

| array  | shape    | float32 | float16 | int8                             |
| values | [R, ...] | float32 | float16 | steps of the row's scale, signed |
| scale  | [R]      | -       | -       | float32                          |

In the int8 coding a value is `values * scale`. The scale is the row's largest magnitude / 127, so no value is off by
more than half a step. It is cut to 12 significant bits: then the product is exact in float32, and what was decoded is
encoded to the same bytes again.

A float16 scale would save 0.15 compressed bytes a row and no accuracy, but it has no small numbers: of pooled features
times 1e-6 nothing was left.

The coding `int8_rotated` has two more arrays: see `rotated_values`.
"""

# Shape letters: R rows in a block.

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from softlab.labels.int8_steps import SCALE_DTYPE, scales_of, steps_of
from softlab.labels.rotated_arrays import arrays_of_rotated

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ValuesCoding = Literal["float32", "float16", "int8", "int8_rotated"]
Array = NDArray[Any]


def arrays_of_values(coding: ValuesCoding, row_shape: tuple[int, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and row shape of each array that rows of such a shape are stored as, by name."""
    if coding == "int8_rotated":
        return arrays_of_rotated(row_shape)
    arrays: dict[str, tuple[str, tuple[int, ...]]] = {"values": (coding, row_shape)}
    return arrays | {"scale": (SCALE_DTYPE, ())} if coding == "int8" else arrays


def dtype_before(coding: ValuesCoding) -> "torch.dtype":
    """What `encode_values` wants: float16 where that is stored, as it is half as much to copy from a device."""
    import torch  # here, because checks of manifests read this file, and commands that only check start without torch

    return torch.float16 if coding == "float16" else torch.float32


def encode_values(values: "Tensor", coding: ValuesCoding) -> dict[str, Array]:
    """Arrays by name, of finite values [R, ...] on the host whose dtype is that of `dtype_before`."""
    assert values.dtype == dtype_before(coding), f"{values.dtype} values for the {coding} coding"
    array: Array = values.numpy()
    if coding == "int8_rotated":
        from softlab.labels.rotated_values import encode_rotated  # as torch

        return encode_rotated(array)
    if coding != "int8":
        return {"values": array}
    scale_R = scales_of(array)
    return {"values": steps_of(array, scale_R), "scale": scale_R}


def decode_values(stored: "Mapping[str, Tensor]") -> "Tensor":
    """float32 [R, ...], on the device of what is stored: the arrays of some rows by name, which tell their coding."""
    if "outliers" in stored:
        from softlab.labels.rotated_values import decode_rotated  # as torch

        return decode_rotated(stored)
    values, scale_R = stored["values"], stored.get("scale")
    decoded = values.float().contiguous()
    return decoded if scale_R is None else decoded.mul_(scale_R.reshape(len(values), *[1] * (values.ndim - 1)))
