"""Starts a student from its teacher's weights: each of its layers is a copy of one of the teacher's."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, ModelError, suggest
from softlab.models.layer_patterns import NUMBER, Fit, check_pattern, fit, suggest_pattern, with_number

_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class InheritOptions:
    """Which of the teacher's layers the student's layers start from.

    The student's layer number i takes the teacher's number first + i * every. By default that is every second layer,
    as in DistilBERT (Sanh, Debut, Chaumond, Wolf, 2019, section 3).
    """

    map: dict[str, str]
    """Student's layer = teacher's layer, with all that is in them; {i} is any number: blocks.{i} = blocks.{i}. Of
    several that fit, the one with more dots counts."""

    first: int = 0
    """The teacher's number for the student's layer 0; may be negative where layers are counted from 1."""

    every: int = 2
    """Steps in the teacher's numbers from one layer of the student to the next."""

    fresh: tuple[str, ...] = ()
    """Student's layers that keep their own initial weights, also where `map` has them."""

    grow: tuple[str, ...] = ()
    """Student's layers with more outputs than the teacher's, such as a classifier of more classes: the first ones are
    the teacher's, the others keep their initial weights."""

    strict: bool = True
    """Refuse a student that has weights in neither `map` nor `fresh`; else they keep their initial values."""

    def __post_init__(self) -> None:
        if not self.map:
            raise InvalidOption(
                "map: names no layer. Give STUDENT_LAYER = TEACHER_LAYER, e.g. blocks.{i} = blocks.{i}."
            )
        for pattern in itertools.chain.from_iterable(self.map.items()):
            check_pattern(pattern, option="map")
        for option, patterns in (("fresh", self.fresh), ("grow", self.grow)):
            for pattern in patterns:
                check_pattern(pattern, option=option)
        for ours, theirs in self.map.items():
            if (NUMBER in ours) != (NUMBER in theirs):
                raise InvalidOption(f"map: {ours} = {theirs} has {NUMBER} on one side only. Write it on both or none.")
        if self.every < 1:
            raise InvalidOption(f"every = {self.every}: expected 1 or more. Set every = 2 for every second layer.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Inherited:
    """What a student has got from its teacher; a tensor with two names (tied weights) counts as one."""

    copied: dict[str, str]
    """The student's parameter or buffer = the teacher's whose values it has, in the student's order."""

    left: tuple[str, ...]
    """Those of the student that kept their initial values."""


def inherit(student: nn.Module, teacher: nn.Module, options: InheritOptions) -> Inherited:
    """Copies the teacher's parameters and buffers into the student, all that the options name or none.

    Buffers that are not saved with a model are left out. Values are cast to the student's data types.

    Raises ModelError for a name that fits no layer, a layer that the teacher doesn't have, shapes that differ, tied
    weights that would get two values, and weights that `strict` refuses to leave.
    """
    ours, theirs = _tensors(student), _tensors(teacher)
    _check_known(ours, options)
    copied = _match(ours, theirs, options)
    _check_shapes(copied, ours, theirs, options)
    _check_ties(copied, ours, theirs)
    reached = {id(ours[name]) for name in copied}
    left = tuple(name for name, tensor in ours.items() if id(tensor) not in reached)
    if options.strict:
        _check_nothing_forgotten(left, options)
    with torch.no_grad():
        for name, source in copied.items():
            target = ours[name]
            if target.shape != theirs[source].shape:
                target = target[: len(theirs[source])]
            target.copy_(theirs[source])
    return Inherited(copied=copied, left=left)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers under all their names, tied ones as the same object."""
    named = itertools.chain(
        module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
    )
    saved = module.state_dict()
    tensors = {name: tensor for name, tensor in named if name in saved}
    return {name: tensors[name] for name in saved if name in tensors}


def _match(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], options: InheritOptions) -> dict[str, str]:
    patterns = sorted(options.map, key=lambda pattern: pattern.count("."), reverse=True)
    copied = {}
    for name in ours:
        if _fits_any(options.fresh, name):
            continue
        for pattern in patterns:
            if found := fit(pattern, name):
                copied[name] = _source(found, options.map[pattern], theirs, options)
                break
    return copied


def _source(found: Fit, pattern: str, theirs: Mapping[str, Tensor], options: InheritOptions) -> str:
    """The teacher's name of one tensor."""
    number = None if found.number is None else options.first + found.number * options.every
    layer = pattern if number is None else with_number(pattern, number)
    source = layer + found.below
    if source in theirs:
        return source
    fits = [fit_ for name in theirs if (fit_ := fit(pattern, name))]
    if not fits:
        raise ModelError(f"map: the teacher has no layer {pattern}. {suggest_pattern(pattern, theirs)}")
    if number is not None and number not in (numbers := [each.number for each in fits if each.number is not None]):
        raise ModelError(
            f"map: the student's {found.layer} takes the teacher's {layer} ({options.first} + {found.number} * "
            f"{options.every}), but the teacher has {with_number(pattern, min(numbers))} to "
            f"{with_number(pattern, max(numbers))}. Change `first` or `every`, or give the student fewer layers."
        )
    raise ModelError(
        f"map: the student's {found.layer + found.below} takes the teacher's {source}, which it doesn't have. "
        f"{suggest(source, theirs)} To leave it as it is, name it in `fresh`."
    )


def _fits_any(patterns: tuple[str, ...], name: str) -> bool:
    return any(fit(pattern, name) for pattern in patterns)


def _check_known(ours: Mapping[str, Tensor], options: InheritOptions) -> None:
    for option, patterns in (("map", tuple(options.map)), ("fresh", options.fresh), ("grow", options.grow)):
        for pattern in patterns:
            if not any(fit(pattern, name) for name in ours):
                raise ModelError(f"{option}: the student has no layer {pattern}. {suggest_pattern(pattern, ours)}")


def _check_shapes(
    copied: Mapping[str, str], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], options: InheritOptions
) -> None:
    different = [
        f"the student's {name} {tuple(ours[name].shape)} and the teacher's {source} {tuple(theirs[source].shape)}"
        for name, source in copied.items()
        if ours[name].shape != theirs[source].shape
        and not (_fits_any(options.grow, name) and _has_room_for(ours[name], theirs[source]))
    ]
    if different:
        raise ModelError(
            f"map: {len(different)} of {len(copied)} shapes differ: {_first_of(different, '; ')}. "
            f"Build the student as wide as the teacher there, or name these layers in `fresh`, or in `grow` where the "
            f"student has more outputs."
        )


def _has_room_for(ours: Tensor, theirs: Tensor) -> bool:
    return ours.dim() > 0 and ours.shape[1:] == theirs.shape[1:] and len(ours) >= len(theirs)


def _check_ties(copied: Mapping[str, str], ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    earlier: dict[int, str] = {}
    for name, source in copied.items():
        other = earlier.setdefault(id(ours[name]), name)
        if theirs[copied[other]] is not theirs[source]:
            raise ModelError(
                f"map: the student's {other} and {name} are one tensor, but the teacher's {copied[other]} and {source} "
                f"are two. Name one of the student's two in `fresh`."
            )


def _check_nothing_forgotten(left: tuple[str, ...], options: InheritOptions) -> None:
    forgotten = [name for name in left if not _fits_any(options.fresh, name)]
    if forgotten:
        raise ModelError(
            f"map: {len(forgotten)} of the student's weights are in neither `map` nor `fresh` "
            f"({_first_of(forgotten, ', ')}). Name their layers in one of them, or set strict = false."
        )


def _first_of(texts: list[str], separator: str) -> str:
    return separator.join([*texts[:_SHOWN], *(["..."] if len(texts) > _SHOWN else [])])
