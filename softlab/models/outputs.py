"""Which outputs of a model are wanted, and where each is found.

NAME                    what the model returns by this name; or all that it returns, if that is one tensor
NAME=FIELD              what it returns as FIELD
NAME=layer:LAYER        the output of a layer
NAME=layer:LAYER:POOL   the same, pooled: mean, cls, flatten; and :channels_last where the layer gives [B, H, W, C]
NAME:values..           stored as it is, not as classes
NAME:classes..          classes, even if its numbers don't look like logits over classes
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from softlab.errors import InvalidOption, ModelError, suggest
from softlab.models.forward import ONLY, Output
from softlab.models.taps import Tap, parse_tap

Kind = Literal["classes", "values"]

NAME = re.compile("[A-Za-z0-9_-]{1,64}")
LAYER = "layer:"


@dataclass(frozen=True, kw_only=True, slots=True)
class WantedOutput:
    """One output of a model that is to be stored."""

    name: str
    kind: Kind = "classes"
    place: str = ""
    """FIELD or layer:LAYER[:POOL]; empty where it goes without saying."""

    is_sure: bool = False
    """Whether the user has named the kind. If not, numbers that don't look like logits over classes are refused."""

    @property
    def tap(self) -> Tap | None:
        """Of an output that is taken from a layer."""
        return parse_tap(self.place.removeprefix(LAYER)) if self.place.startswith(LAYER) else None

    @property
    def taken_from(self) -> str:
        """As a manifest says it."""
        tap = self.tap
        if tap is None:
            return self.place or ONLY
        return f"{LAYER}{tap}"


def parse_output(text: str) -> WantedOutput:
    """As written above. Raises InvalidOption for a name or kind that can't be."""
    head, _, place = text.partition("=")
    name, colon, kind = head.partition(":")
    if not NAME.fullmatch(name):
        raise InvalidOption(f"output {text!r}: a name is 1 to 64 of a-z A-Z 0-9 _ -. Write NAME, or NAME=WHERE.")
    if colon and kind not in get_args(Kind):
        raise InvalidOption(
            f"output {text!r}: unknown kind {kind!r}. {suggest(kind, get_args(Kind))} Write NAME:values, or NAME alone "
            f"for logits over classes."
        )
    wanted = WantedOutput(name=name, kind=cast(Kind, kind or "classes"), place=place, is_sure=bool(colon))
    if wanted.tap is not None and wanted.kind == "classes" and wanted.tap.pooling == "flatten":
        raise InvalidOption(f"output {text!r}: classes are not flattened. Say another pooling, or {name}:values.")
    return wanted


def pick_output(wanted: WantedOutput, returned: Mapping[str, Output], tapped: Mapping[str, Output]) -> Output:
    """The tensor of a wanted output. `returned` is what the model returned by name, `tapped` the outputs of layers by
    the name of the wanted output. Raises ModelError where there is no such output, listing those that there are."""
    if wanted.tap is not None:
        return tapped[wanted.name]
    field = wanted.place or wanted.name
    if field in returned:
        return returned[field]
    if ONLY in returned and wanted.place in ("", ONLY):
        return returned[ONLY]
    found = ", ".join(f"{name} {list(value.shape)}" for name, value in returned.items())
    raise ModelError(
        f"output {wanted.name}: the model returns no {field!r} (it returns: {found}). {suggest(field, returned)} Name "
        f"it with `dump.output = {wanted.name}=FIELD`, or take a layer's with `dump.output = {wanted.name}=layer:NAME`."
    )
