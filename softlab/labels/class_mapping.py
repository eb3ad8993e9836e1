"""Hard targets that contradict a teacher because the two count their classes differently.

Right labels in another order make a good teacher look as if it guessed. A mapping of classes that is found on one half
of the rows and holds on the other half tells the two apart: a guessing teacher has none.
"""

# Shape letters: N rows, H rows held out.

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_ROWS = 40
FEWEST_GAINED = 8
"""Held-out rows that the mapping must put right."""

MANY_CLASSES = 100
"""With more, a class has so few of the rows that its mapping is often missed."""

SHOWN_CLASSES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMapping:
    """Under which the teacher and the hard targets agree."""

    classes: Mapping[int, int]
    """The teacher's class of a target, for those that differ."""

    rows: int
    accuracy: float
    """Of the teacher, by the targets as they are."""

    mapped_accuracy: float
    """On rows held out, once they are mapped."""

    @property
    def offset(self) -> int | None:
        """Where all targets that were seen differ by the same."""
        offsets = {theirs - ours for ours, theirs in self.classes.items()}
        return offsets.pop() if len(offsets) == 1 else None


def find_mapping(predicted_N: NDArray[np.int64], targets_N: NDArray[np.int64]) -> ClassMapping | None:
    """None where targets and the teacher's largest class agree as they are, or no one-to-one mapping explains how they
    differ. Rows with an unknown target don't count."""
    known = targets_N >= 0
    predicted_N, targets_N = predicted_N[known], targets_N[known]
    if len(targets_N) < FEWEST_ROWS:
        return None
    order = np.random.default_rng(0).permutation(len(targets_N))  # rows may be sorted by class, or take turns
    fit, held = np.array_split(order, 2)
    targets_H, predicted_H = targets_N[held], predicted_N[held]
    candidates = [_pairs(predicted_N[fit], targets_N[fit]), *(_shifted(targets_N, by) for by in (-1, 1))]
    found = max(candidates, key=lambda classes: (predicted_H == _mapped(targets_H, classes)).mean())
    mapped_H = _mapped(targets_H, found)
    moved_H = (mapped_H >= 0) & (mapped_H != targets_H)
    gained = int((predicted_H == mapped_H)[moved_H].sum())
    lost = int((predicted_H == targets_H)[moved_H].sum())
    # What is said of moved classes is said of them alone: a teacher that says one class of everything has no mapping.
    said_H = np.isin(predicted_H, mapped_H[moved_H])
    needed = 0.3 if len(np.unique(targets_N)) > MANY_CLASSES else 0.6
    if gained < FEWEST_GAINED or gained < needed * max(moved_H.sum(), said_H.sum()) or gained <= 4 * lost:
        return None
    return ClassMapping(
        classes={ours: theirs for ours, theirs in sorted(found.items()) if ours != theirs},
        rows=len(targets_N),
        accuracy=float((predicted_N == targets_N).mean()),
        mapped_accuracy=float((predicted_H == mapped_H).mean()),
    )


def describe_mapping(mapping: ClassMapping, class_names: tuple[str, ...] | None, *, is_stored: bool = False) -> str:
    """What was found and how to make both agree, to follow the name of the data set. Where a store has been made
    (`is_stored`), it has these names as the data set counts them."""
    return (
        f"its hard targets count classes otherwise than the teacher: they agree for {mapping.accuracy:.1%} of "
        f"{mapping.rows:,} as they are, and for {mapping.mapped_accuracy:.1%} if {_first_pairs(mapping, class_names)}"
        f"{_in_words(mapping, class_names)}. {_next_step(mapping, class_names, is_stored=is_stored)}"
    )


def _mapped(targets_N: NDArray[np.int64], classes: Mapping[int, int]) -> NDArray[np.int64]:
    """-1 for a class that isn't mapped."""
    lookup = np.full(max([int(targets_N.max()), *classes]) + 1, -1)
    lookup[list(classes)] = list(classes.values())
    return lookup[targets_N]


def _shifted(targets_N: NDArray[np.int64], by: int) -> dict[int, int]:
    """Counted from 1 on one side, or with a background class first."""
    return {target: target + by for target in np.unique(targets_N).tolist() if target + by >= 0}


def _pairs(predicted_N: NDArray[np.int64], targets_N: NDArray[np.int64]) -> dict[int, int]:
    """Each target's own class of the teacher, the most frequent pairs first."""
    pairs, counts = np.unique(np.stack([targets_N, predicted_N], axis=1), axis=0, return_counts=True)
    found: dict[int, int] = {}
    taken: set[int] = set()
    for target, predicted in pairs[np.argsort(-counts, kind="stable")].tolist():
        if target not in found and predicted not in taken:
            found[target] = predicted
            taken.add(predicted)
    return found


def _first_pairs(mapping: ClassMapping, class_names: tuple[str, ...] | None) -> str:
    def name(target: int) -> str:
        return f"{class_names[target]!r} ({target})" if class_names and target < len(class_names) else f"label {target}"

    shown = [f"{name(ours)} is its class {theirs}" for ours, theirs in list(mapping.classes.items())[:3]]
    more = f" and so on for {len(mapping.classes):,} classes" if len(mapping.classes) > 3 else ""
    return ", ".join(shown) + more


def _in_words(mapping: ClassMapping, class_names: tuple[str, ...] | None) -> str:
    if mapping.offset == -1:
        return ": the labels count from 1, or have a background class that the teacher lacks"
    if mapping.offset == 1:
        return ": the teacher has one class more before them, such as a background class"
    if class_names and _order(mapping, class_names) == sorted(class_names, key=_natural):
        return ": the teacher counts them in natural order (1, 2, 10), not in that of texts (1, 10, 2)"
    return ""


def _next_step(mapping: ClassMapping, class_names: tuple[str, ...] | None, *, is_stored: bool) -> str:
    if not class_names:
        return "Number the labels as the teacher does, or leave them out and train with `teachers.alpha = 1`"
    order = _order(mapping, class_names)
    names = ", ".join(f'"{name}"' for name in order or ())
    value = f" = [{names}]" if order and len(order) <= SHOWN_CLASSES else ""
    given = f"the teacher's order as `source.class_names{value}` (of folders, and of labels that are texts)"
    if is_stored:
        return f"Dump again with {given}, or train on the teacher's labels alone with `teachers.alpha = 1`"
    return f"Give {given}"


def _order(mapping: ClassMapping, class_names: Sequence[str]) -> list[str] | None:
    """The names as the teacher counts them; None where some aren't told."""
    numbers = [mapping.classes.get(target, target) for target in range(len(class_names))]
    if sorted(numbers) != list(range(len(class_names))):
        return None
    return [class_names[target] for target in np.argsort(numbers).tolist()]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name) if part]
