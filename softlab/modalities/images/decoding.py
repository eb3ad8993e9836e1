"""What is decided once about decoding images, so that everybody who looks at a data set sees the same pixels."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from softlab.errors import InvalidOption, StoreMismatch, UnsupportedStore

Background = Literal["white", "grey", "black"]

RULES = 2
"""Those of today. Rules 1, of stores that say nothing: transparency is dropped, so that what lies below it shows, and
the orientation in EXIF isn't applied."""

MAX_PIXELS = 178_956_970
"""Where Pillow itself takes an image for a decompression bomb."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDecoding:
    """How encoded images become pixels."""

    rules: int = RULES
    background: Background = "white"
    value_range: tuple[float, ...] = ()
    max_pixels: int = MAX_PIXELS

    @property
    def record(self) -> dict[str, Any]:
        """What a manifest says of it: all that decides about pixels."""
        found: dict[str, Any] = {"rules": self.rules, "background": self.background}
        return found | ({"value_range": list(self.value_range)} if self.value_range else {})


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the input of a model says of decoding; None and () leave it to the store, or to the defaults."""

    background: Background | None = None
    value_range: tuple[float, ...] = ()
    max_pixels: int = MAX_PIXELS


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
            seen = decided.get(name) or ("was not composited" if name == "background" else "the whole range")
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
    """Without what rules 1 don't know."""
    known = {field.name for field in fields(ImageDecoding)} - {"max_pixels"}
    backgrounds = ("white", "grey", "black")
    values = record.get("value_range", [])
    is_known = record.keys() <= known and record.get("rules") in (1, RULES)
    is_range = isinstance(values, list | tuple) and all(isinstance(each, int | float) for each in values)
    if not is_known or not is_range or record.get("background", "white") not in backgrounds:
        raise UnsupportedStore(
            f"the store's images were decoded in a way that this softlab doesn't know ({dict(record)}). Upgrade "
            f"softlab."
        )
    found = dict(record)
    if "value_range" in found:
        found["value_range"] = tuple(values)
    return found if record["rules"] == 1 else {"background": "white", **found}


def _told(value: object) -> str:
    return f"[{', '.join(f'{each:g}' for each in value)}]" if isinstance(value, tuple) else str(value)
