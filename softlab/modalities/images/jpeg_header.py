"""What the header of a JPEG says, as far as it decides whether it can be scaled while it is decoded (ITU-T T.81)."""

from collections.abc import Iterator
from dataclasses import dataclass

START, END = b"\xff\xd8", b"\xff\xd9"
APP1, SCAN = 0xE1, 0xDA
"""EXIF and XMP; the pixels."""

IN_TURN = (0xC0, 0xC1)
"""Frames whose pixels come line by line: baseline and extended sequential, with Huffman codes."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""All kinds, such as progressive ones; the three are tables."""

SAMPLINGS = (0x11, 0x21, 0x12, 0x22, 0x41, 0x14)
"""How often brightness is sampled across and down where colours are once: 4:4:4, 4:2:2, 4:4:0, 4:2:0, 4:1:1, 4:4:1."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Of a JPEG that can be scaled."""

    height: int
    width: int

    height_at: int
    """Where in the file the height stands, two bytes."""

    block_lines: int
    """Lines that are coded together."""

    has_metadata: bool
    """EXIF or XMP, which may say that it is turned."""

    def lines_up_to(self, line: int) -> int:
        """Whole blocks, and one more: where colours have half the lines, a line is mixed of two of them."""
        return min((-(-line // self.block_lines) + 1) * self.block_lines, self.height)

    def with_lines(self, data: bytes, lines: int) -> bytes:
        """The file as if it had no more lines, so that nobody decodes them."""
        if lines == self.height:
            return data
        return b"".join((data[: self.height_at], lines.to_bytes(2, "big"), data[self.height_at + 2 :]))


def read_header(data: bytes) -> JpegHeader | None:
    """Of a JPEG in colour, 8 bits of each, whose lines come one after the other and are all there: the file ends with
    its end marker. None for any other: grey, CMYK, progressive, cut off, or with bytes behind its end."""
    if not (data.startswith(START) and data.endswith(END)):
        return None
    frame, has_metadata = -1, False
    for marker, at, length in _segments(data):
        has_metadata |= marker == APP1
        if marker in FRAMES:
            if marker not in IN_TURN or length != 15 or frame >= 0:
                return None
            frame = at
        if marker == SCAN:
            return _as_header(data, frame, has_metadata) if frame >= 0 and data[at] == 3 else None
    return None


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, where what it says begins, and how long that is; up to the first scan, or to what isn't a segment."""
    at = len(START)
    while at + 4 < len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4], "big") - 2
        if length < 1 or at + 4 + length > len(data):
            return
        yield data[at + 1], at + 4, length
        if data[at + 1] == SCAN:
            return
        at += 4 + length


def _as_header(data: bytes, frame: int, has_metadata: bool) -> JpegHeader | None:
    bits, height, width = data[frame], _number(data, frame + 1), _number(data, frame + 3)
    num_components, samplings = data[frame + 5], [data[frame + place] for place in (7, 10, 13)]
    is_known = samplings[0] in SAMPLINGS and samplings[1:] == [0x11, 0x11]
    if bits != 8 or num_components != 3 or not is_known or not height or not width:
        return None
    return JpegHeader(
        height=height,
        width=width,
        height_at=frame + 1,
        block_lines=8 * (samplings[0] & 0xF),
        has_metadata=has_metadata,
    )


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
