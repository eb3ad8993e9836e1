"""What is decided once about decoding images, so that everybody who looks at a data set sees the same pixels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from softlab.errors import InvalidOption, StoreMismatch, UnsupportedStore

Background = Literal["white", "grey", "black"]
Jpeg = Literal["whole", "scaled"]

RULES = 2
"""Those of today. Rules 1, of stores that say nothing: transparency is dropped, so that what lies below it shows, and
the orientation in EXIF isn't applied."""

MAX_PIXELS = 178_956_970
"""Where Pillow itself takes an image for a decompression bomb."""

SCALED: dict[str, Any] = {"jpeg": "scaled", "jpeg_decoder": "simplejpeg", "jpeg_rules": 1}
"""What is recorded where JPEGs are scaled: by which package, and by which rules. These say which JPEGs are scaled, by
how much, and how a box is rounded; see jpeg.py. The package's version is with those of others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDecoding:
    """How encoded images become pixels."""

    rules: int = RULES
    background: Background = "white"
    value_range: tuple[float, ...] = ()
    jpeg: Jpeg = "whole"
    shrink: int | None = None
    """Pixels of the shorter side; None for an image as it is."""

    max_pixels: int = MAX_PIXELS

    @property
    def record(self) -> dict[str, Any]:
        """What a manifest says of it: all that decides about pixels."""
        found: dict[str, Any] = {"rules": self.rules, "background": self.background}
        found |= {"value_range": list(self.value_range)} if self.value_range else {}
        found |= SCALED if self.jpeg == "scaled" else {}
        return found | ({} if self.shrink is None else {"shrink": self.shrink})


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the input of a model says of decoding; None and () leave it to the store, or to the defaults."""

    background: Background | None = None
    value_range: tuple[float, ...] = ()
    jpeg: Jpeg | None = None
    shrink: int | None = None
    max_pixels: int = MAX_PIXELS


NOT_SAID = {"background": "was not composited", "value_range": "the whole range", "shrink": "not shrunk"}
"""What a teacher saw, of options that its store's record doesn't have."""


def decide(wanted: list[Wanted], *, as_recorded: Mapping[str, Any] | None, is_of_a_store: bool) -> ImageDecoding:
    """One decoding for all models that look at the same images; where a store's teacher has seen them, as it did
    (`as_recorded` is None in a store from before this was recorded).

    Raises InvalidOption for models that ask for different ones, StoreMismatch for a model that asks for another than
    the store's, UnsupportedStore for a record of later rules.
    """
    given = [{name: value for name, value in asdict(each).items() if value} for each in wanted]
    decided: dict[str, Any] = {"max_pixels": max((each.max_pixels for each in wanted), default=MAX_PIXELS)}
    if is_of_a_store:
        decided |= _read(as_recorded or {"rules": 1})
    for name, value in ((name, value) for each in given for name, value in each.items() if name != "max_pixels"):
        if is_of_a_store and value != decided.get(name):
            seen = decided.get(name) or NOT_SAID[name]
            raise StoreMismatch(
                f"`input.{name} = {_told(value)}`, but the teacher saw its images decoded otherwise ({_told(seen)}). "
                f"Leave `input.{name}` out: a store's images are decoded as its teacher saw them."
            )
        if decided.setdefault(name, value) != value:
            raise InvalidOption(
                f"`input.{name}` is {_told(decided[name])} for one model and {_told(value)} for another, but images "
                f"are decoded once for all models of a run. Give them the same."
            )
    return ImageDecoding(**decided)


def _read(record: Mapping[str, Any]) -> dict[str, Any]:
    """The options of decoding that a record stands for, without what rules 1 don't know. Raises UnsupportedStore."""
    known = {field.name for field in fields(ImageDecoding)} - {"max_pixels"}
    options = {name: value for name, value in record.items() if name in known}
    scaled = {name: value for name, value in record.items() if name in SCALED}
    if not record.keys() - SCALED.keys() <= known or scaled not in ({}, SCALED) or not _is_valid(options):
        raise UnsupportedStore(
            f"the store's images were decoded in a way that this softlab doesn't know ({dict(record)}). Upgrade "
            f"softlab."
        )
    if "value_range" in options:
        options["value_range"] = tuple(options["value_range"])
    by_rules = {} if options["rules"] == 1 else {"background": "white"}
    return {"jpeg": "whole"} | by_rules | options


def _is_valid(options: Mapping[str, Any]) -> bool:
    values, shrink = options.get("value_range", []), options.get("shrink", 1)
    return (
        options.get("rules") in (1, RULES)
        and isinstance(values, list | tuple)
        and all(isinstance(each, int | float) for each in values)
        and options.get("background", "white") in get_args(Background)
        and type(shrink) is int
        and shrink >= 1
    )


def _told(value: object) -> str:
    return f"[{', '.join(f'{each:g}' for each in value)}]" if isinstance(value, tuple) else str(value)
