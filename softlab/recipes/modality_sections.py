"""Sections of a recipe whose keys a modality decides: [input], [teacher.input], [student.NAME.input] and [augment].

Their class in a recipe is that of images, whose options are also flags. A section that says `modality = "NAME"` has the
options of that modality instead; one that doesn't has the modality of [input].
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from softlab.errors import InvalidOption
from softlab.modalities.modality import DEFAULT_MODALITY, find_modality, softlabs_modalities
from softlab.recipes.options import OptionField, option_fields

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


def options_of_modalities(kind: type[Any]) -> list[OptionField]:
    """Every option of a command. Where a modality decides what options a section has, those of each of softlab's
    modalities, which `of` names, and the key that chooses one."""
    names = [DEFAULT_MODALITY, *(name for name in softlabs_modalities() if name != DEFAULT_MODALITY)]
    having: dict[str, tuple[OptionField, list[str]]] = {}
    for name in names:
        for option in option_fields(kind, choose=partial(_of_modality, name=name)):
            having.setdefault(repr(option), (option, []))[1].append(name)
    found: list[OptionField] = []
    for option, of in having.values():
        is_everywhere = len(of) == len(names)
        behind = [place for place, other in enumerate(found, start=1) if other.section == option.section]
        place = len(found) if of[0] == DEFAULT_MODALITY else behind[-1]
        found.insert(place, option if is_everywhere else replace(option, of=tuple(of)))
    own = [place for place, option in enumerate(found) if option.section == DEFAULT_SECTION]
    return [*found[: own[0]], _modality_option(names), *found[own[0] :]] if own else found


def _of_modality(section: type[Any], *, name: str) -> type[Any]:
    return chosen_section(section, {}, default=name)


def _modality_option(names: list[str]) -> OptionField:
    text = "What a sample is. One of your own is written package.module. Other inputs, and [augment], are of the same "
    text += "modality unless they say another."
    choices = Literal[tuple(names)]  # type: ignore[valid-type]
    key = f"{DEFAULT_SECTION}.{MODALITY}"
    return OptionField(key=key, type=choices, default=DEFAULT_MODALITY, paragraphs=(text,))
