"""The sections of a card that a person fills in, and whether all else in it is still as it was generated.

    <!-- kept: contact -->
    what stands here is kept when the card is generated anew
    <!-- end -->

A card ends in the digest of everything outside these sections.
"""

import re
from collections.abc import Mapping

from softlab.identity import digest_of

TO_FILL_IN = {
    "licence": "_Not filled in: under which terms may these labels be used?_",
    "intended-use": "_Not filled in: what were these labels made for, and what are they no good for?_",
    "contact": "_Not filled in: whom to ask?_",
}
"""What stands in each section until a person has written in it."""

_SECTION = re.compile(r"<!-- kept: ([a-z-]+) -->\n(.*?)\n?<!-- end -->", re.DOTALL)
_DIGEST_LINE = re.compile(r"\n<!-- generated: ([0-9a-f]{64}) -->\s*\Z")


def kept_section(name: str, written: Mapping[str, str], *, is_asked: bool = True) -> list[str]:
    """The lines of one section: what a person wrote in it before, else its question from `TO_FILL_IN`.

    With `is_asked=False` the question is left out, because the card answers it in another place.
    """
    text = written.get(name, TO_FILL_IN[name] if is_asked else "")
    return [f"<!-- kept: {name} -->", text, "<!-- end -->", ""]


def written_sections(card: str) -> dict[str, str]:
    """What a person has written in the sections of a card, by name."""
    found: list[tuple[str, str]] = _SECTION.findall(_normal(card))
    return {name: text for name, text in found if text.strip() and text != TO_FILL_IN.get(name)}


def with_digest(card: str) -> str:
    """The card with its digest as the last line, by which `is_generated` recognises it."""
    return f"{card}\n<!-- generated: {_digest(card)} -->\n"


def is_generated(card: str) -> bool:
    """Whether a person has changed nothing outside the kept sections."""
    card = _normal(card)
    found = _DIGEST_LINE.search(card)
    return found is not None and found[1] == _digest(card[: found.start()])


def _digest(card: str) -> str:
    return digest_of(_SECTION.sub(r"<!-- kept: \1 -->", card).encode())


def _normal(card: str) -> str:
    return card.replace("\r\n", "\n")
