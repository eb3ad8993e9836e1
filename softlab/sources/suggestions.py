"""The end of a message about an unknown name: the known names that are nearest to it."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, known: Iterable[str]) -> str:
    """A sentence with up to 3 near names; with up to 5 known names, in their own order, where none is near."""
    known = list(known)
    folded = {each.casefold(): each for each in known}
    near = [folded[match] for match in get_close_matches(name.casefold(), folded, n=3)]
    if near:
        return f"Did you mean {' or '.join(near)}?"
    more = ", .." if len(known) > 5 else ""
    return f"Known: {', '.join(known[:5]) or 'none'}{more}."
