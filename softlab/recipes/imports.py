"""What a recipe would import, found without importing any of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from softlab.modalities.modality import softlabs_modalities
from softlab.models.build import ORIGINS
from softlab.recipes.modality_sections import MODALITY
from softlab.recipes.options import join_key
from softlab.users_code import find_users_package, is_installed, is_pythons_own

MODEL = "model"
"""The key under which every model of a recipe stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """A module of the user's own that a recipe names."""

    key: str
    """Where it is named: teacher.model."""

    name: str
    """As it stands there: my_models:wide."""

    place: str
    """The file or folder of its package, and whether that is an installed one."""


def imports_of(table: Mapping[str, Any], *, key: str = "") -> Iterator[Import]:
    """Models and modalities in the table of a recipe that are no softlab's, torchvision's or timm's."""
    for name, value in table.items():
        inner = join_key(key, name)
        if isinstance(value, Mapping) and name != "arguments":
            yield from imports_of(value, key=inner)
        elif isinstance(value, str) and _is_users_own(name, value):
            yield Import(key=inner, name=value, place=_place_of(value.partition(":")[0]))


def _is_users_own(name: str, value: str) -> bool:
    if name == MODEL:
        return value.partition(":")[0] not in ORIGINS
    return name == MODALITY and value not in softlabs_modalities()


def _place_of(module: str) -> str:
    if is_pythons_own(module):
        return "refused, it is of Python itself"
    place = find_users_package(module)
    if place is None:
        return "not found"
    return f"{place}, an installed package" if is_installed(place) else f"{place}, outside the installed packages"
