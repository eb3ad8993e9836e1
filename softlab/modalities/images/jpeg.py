"""JPEGs of which only the lines that are needed are decoded, and no larger than they are needed; by simplejpeg, which
brings libjpeg-turbo."""

# Shape letters: C channels (always 3), H height, W width.

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import InvalidOption, UnreadableSample
from softlab.identity import digest_of
from softlab.modalities.images.jpeg_header import JpegHeader, read_header
from softlab.sources.source import unreadable

SCALES = (8, 4, 2)
"""By how much an image may be shrunk while it is decoded. libjpeg-turbo has fast code for these: to shrink a JPEG of
500 x 375 to 7/8 or 6/8 took longer than to decode all of it.

These, how a box is rounded, and which JPEGs are scaled (`read_header`) are the rules that manifests record: whoever
changes one of them gives them another number (`SCALED`)."""


@dataclass(frozen=True, slots=True, eq=False)
class ScaledJpeg:
    """An image that isn't decoded yet: how much of it is needed is said by who needs it. What comes out depends on the
    bytes, the box and the size that are asked for alone."""

    data: bytes
    header: JpegHeader
    key: str = ""
    """Of the sample that it is, with its place; empty where nobody has told."""

    place: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.header.height, self.header.width

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def whole(self) -> Tensor:
        """uint8 CHW, in full size."""
        return _as_tensor(self._decode(self.header.height, scale=1)).contiguous()

    def shrunk(self, height: int, width: int) -> Tensor:
        """All of it, no smaller than that, unless the image itself is."""
        scale = _choose_scale(self.header.height, self.header.width, height, width)
        return _as_tensor(self._decode(self.header.height, scale=scale))

    def box(self, *, top: int, left: int, height: int, width: int, target: tuple[int, int]) -> Tensor:
        """A part of it, no smaller than the target (height, width), unless the part itself is. Its edges are rounded to
        whole pixels of the shrunk image; all below it stays encoded."""
        scale = _choose_scale(height, width, *target)
        first, stop, start, end = (
            (edge + scale // 2) // scale for edge in (top, top + height, left, left + width)
        )  # halves go up at both ends, so that no box gets smaller than the target
        return _as_tensor(self._decode(top + height, scale=scale)[first:stop, start:end])

    def _decode(self, lines: int, *, scale: int) -> NDArray[np.uint8]:
        """So many lines from above, counted in full size, or some more. Raises UnreadableSample."""
        kept, width = self.header.lines_up_to(lines), self.header.width
        size = (-(-kept // scale), -(-width // scale))
        try:
            # Not strict, as bytes of lines that the header leaves out are worth a warning. Pillow heeds none either.
            pixels_HWC: NDArray[np.uint8] = _simplejpeg().decode_jpeg(
                self.header.with_lines(self.data, kept),
                "RGB",
                min_height=size[0] if scale > 1 else 0,
                min_width=size[1] if scale > 1 else 0,
                strict=False,
            )
        except ValueError as error:
            if self.key:
                raise unreadable(error, key=self.key, place=self.place) from error
            raise UnreadableSample(
                f"a JPEG of {width} x {self.header.height} pixels (BLAKE3 of its bytes {digest_of(self.data)[:16]}) "
                f"can't be decoded: {error}. Repair or remove it."
            ) from error
        assert pixels_HWC.shape[:2] == size, "a scale that wasn't asked for"
        return pixels_HWC


def find_jpeg(data: bytes) -> ScaledJpeg | None:
    """None for what is decoded whole, by Pillow; see `read_header`."""
    header = read_header(data)
    return None if header is None else ScaledJpeg(data, header)


def check_decoder() -> None:
    """Raises InvalidOption where simplejpeg is missing."""
    _simplejpeg()


def _simplejpeg() -> Any:
    try:
        import simplejpeg
    except ImportError as error:
        raise InvalidOption(
            "images that are decoded as `input.jpeg = scaled` need simplejpeg. Install it: pip install 'softlab[jpeg]'"
        ) from error
    return simplejpeg


def _as_tensor(pixels_HWC: NDArray[np.uint8]) -> Tensor:
    """[C, H, W], in memory still [H, W, C]: torch resizes that in two thirds of the time."""
    return torch.from_numpy(np.ascontiguousarray(pixels_HWC)).permute(2, 0, 1)


def _choose_scale(height: int, width: int, least_height: int, least_width: int) -> int:
    """The largest at which neither side gets smaller than that."""
    fits = (scale for scale in SCALES if height >= scale * least_height and width >= scale * least_width)
    return next(fits, 1)
