"""Sections of a recipe whose keys a modality decides: [input], [teacher.input], [student.NAME.input] and [augment].

Their class in a recipe is that of images, whose options are also flags. A section that says `modality = "NAME"` has the
options of that modality instead; one that doesn't has the modality of [input].
"""

from collections.abc import Mapping
from typing import Any

from softlab.errors import InvalidOption
from softlab.modalities.modality import find_modality

MODALITY = "modality"
"""The key, and the attribute of a section's class."""

DEFAULT_SECTION = "input"


def belongs_to_a_modality(section: type[Any]) -> bool:
    return isinstance(getattr(section, MODALITY, None), str)


def run_modality(table: Mapping[str, Any]) -> str | None:
    """What [input] of a whole recipe says; None where it says nothing."""
    section = table.get(DEFAULT_SECTION)
    return section.get(MODALITY) if isinstance(section, Mapping) else None


def chosen_section(section: type[Any], table: object, *, default: str | None) -> type[Any]:
    """The class that a section has in this table; `default` is the modality of [input]. Raises InvalidOption for a
    modality that there isn't."""
    if not belongs_to_a_modality(section):
        return section
    own: str = getattr(section, MODALITY)
    name = table.get(MODALITY, default) if isinstance(table, Mapping) else default
    if name is None or name == own:
        return section
    if not isinstance(name, str):
        raise InvalidOption(f"{MODALITY} is {name!r}, but must be a string, such as {own!r}.")
    is_input = find_modality(own).input_options is section
    chosen: type[Any] = find_modality(name).input_options if is_input else find_modality(name).view_options
    return chosen
