"""Which kinds of images a data set has, told from a few: their headers, and of 16-bit ones some pixels."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from PIL import Image

from softlab.modalities.images.decode import (
    is_grey,
    is_transparent,
    is_wide,
    is_wide_colour,
    open_image,
    orientation_of,
)
from softlab.modalities.images.inputs import ImageInput
from softlab.sources.source import Raw

WIDE_LOOKED_INTO = 8
"""16-bit images of which the brightest pixel is looked for."""


def settle_input(options: ImageInput, raws: Iterable[Raw]) -> tuple[ImageInput, str]:
    """The options with their channels, where they say none and some of these images are RGB: then grey ones among them
    become RGB too, whatever batch they are in. And what is not ordinary about these images; empty for nothing."""
    kinds, brightest, total = Counter[str](), 0, 0
    for raw in raws:
        total += 1
        try:
            found = _kinds_of(raw, options)
            if "16-bit" in found and kinds["16-bit"] < WIDE_LOOKED_INTO and isinstance(raw, bytes):
                brightest = max(brightest, _brightest(raw, options))
        except Exception:  # of a damaged image, which is told of by its key when it is decoded
            continue
        kinds.update(found)
    if options.channels is None and kinds["RGB"]:
        options = replace(options, channels=3)
    return options, _note(kinds, options, brightest=brightest, total=total)


def _kinds_of(raw: Raw, options: ImageInput) -> list[str]:
    if isinstance(raw, np.ndarray):
        return ["grey" if raw.shape[0] == 1 else "RGB"]
    if isinstance(raw, str | tuple):
        return []
    with open_image(raw, max_pixels=options.max_pixels) as image:
        found = ["grey" if is_grey(image) else "RGB"]
        found += ["transparent"] if is_transparent(image) else []
        found += ["rotated"] if orientation_of(image) != 1 else []
        found += ["16-bit"] if is_wide(image) and image.mode.startswith("I;") else []
        found += ["wide"] if is_wide(image) and not image.mode.startswith("I;") else []
        found += ["16-bit colour"] if is_wide_colour(image) else []
        found += ["CMYK"] if image.mode == "CMYK" else []
        found += ["animated"] if getattr(image, "is_animated", False) else []
        return found


def _brightest(raw: bytes, options: ImageInput) -> int:
    with open_image(raw, max_pixels=options.max_pixels) as image:
        return int(np.asarray(_loaded(image)).max())


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def _note(kinds: Counter[str], options: ImageInput, *, brightest: int, total: int) -> str:
    scale = f"from {options.value_range[0]:g} to {options.value_range[1]:g}" if options.value_range else "cut to 8 bits"
    what = {
        "grey": "grey (made RGB, as others are)" if options.channels == 3 and kinds["RGB"] else "",
        "transparent": f"transparent (laid on {options.background or 'white'}; `input.background` has others)",
        "rotated": "turned as their EXIF says",
        "16-bit": f"of 16 bits ({scale}{_darkness(brightest, options)})",
        "wide": f"of 32 bits or floats ({scale if options.value_range else 'refused without `input.value_range`'})",
        "16-bit colour": "of 16 bits a colour (cut to 8)",
        "CMYK": "CMYK (made RGB without a colour profile)",
        "animated": "of several frames (the first one is taken)",
    }
    told = [f"{kinds[name]:,} {text}" for name, text in what.items() if kinds[name] and text]
    return f"of {total:,} images looked at {', '.join(told)}" if told else ""


def _darkness(brightest: int, options: ImageInput) -> str:
    """Where fewer bits are in use than there are, images come out nearly black."""
    if options.value_range or not 255 < brightest < 1 << 14:
        return ""
    most = (1 << brightest.bit_length()) - 1
    return f", but no pixel is above {brightest:,}, so that they are dark: say `input.value_range = [0, {most}]`"
