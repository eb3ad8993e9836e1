"""Many small pictures in one image, each with a few lines of text below it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

PIXELS, MARGIN = 128, 12
"""Of a picture's longer side, and around each of them."""

FONT_PIXELS, LINE_PIXELS = 11, 15
WIDTH = PIXELS + 80
COLUMNS = 6
PAPER, INK, ODD_INK = "white", "black", "#b00000"


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One of a sheet."""

    png: bytes
    lines: tuple[str, ...]
    odd_line: int | None = None
    """Which of the lines is written in red."""


def contact_sheet_png(title: str, pictures: Sequence[Picture]) -> bytes:
    """The whole sheet; lines that are too long are cut."""
    columns = min(COLUMNS, max(len(pictures), 1))
    height = PIXELS + LINE_PIXELS * max((len(each.lines) for each in pictures), default=0)
    top, down, across = LINE_PIXELS + 2 * MARGIN, height + MARGIN, WIDTH + MARGIN
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (MARGIN + columns * across, top + rows * down), PAPER)
    _write(sheet, (MARGIN, MARGIN), title, width=sheet.width - 2 * MARGIN)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        _place(sheet, (MARGIN + column * across, top + row * down), picture)
    sink = BytesIO()
    sheet.save(sink, format="PNG")
    return sink.getvalue()


def _place(sheet: Image.Image, corner: tuple[int, int], picture: Picture) -> None:
    left, top = corner
    with Image.open(BytesIO(picture.png)) as image:
        sheet.paste(image.convert("RGB"), corner)
    for number, line in enumerate(picture.lines):
        place = (left, top + PIXELS + number * LINE_PIXELS)
        _write(sheet, place, line, width=WIDTH, ink=ODD_INK if number == picture.odd_line else INK)


def _write(sheet: Image.Image, place: tuple[int, int], line: str, *, width: int, ink: str = INK) -> None:
    draw, font = ImageDraw.Draw(sheet), _font()
    if (length := draw.textlength(line, font)) > width:
        line = line[: int(len(line) * 2 * width / length)]  # much of a long one goes at once
        while line and draw.textlength(f"{line}..", font) > width:
            line = line[:-1]
        line = f"{line}.."
    draw.text(place, line, fill=ink, font=font)


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(FONT_PIXELS)
