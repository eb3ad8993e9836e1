"""Which samples a run goes through, by what the stored teachers said of each of them."""

# Shape letters: N samples of the source, B rows read at a time.

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption, OddSource, first_few
from softlab.indices import StoreIndex
from softlab.labels.keep_rule import FACTS, KeepRule, RowFigures, read_rule
from softlab.labels.row_figures import agreement, one_teacher, sureness
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.aligned import Aligned
from softlab.ranks import is_first_rank
from softlab.sources.subset import chosen
from softlab.store.mapped import at_temperature, whole_of
from softlab.student.options import TrainOptions

ROWS_AT_A_TIME = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What a rule has left of a data set."""

    rule: str
    samples: int
    of: int
    classes: dict[str, tuple[int, int]]
    """Of each class that is the largest one of some sample: how many were kept, and of how many."""

    @property
    def line(self) -> str:
        """`keeps 812 of 1,000 samples (max_prob >= 0.9), of its classes 61.0% (Shirt) to 99.0% (Bag)`."""
        shares = sorted((kept / of, name) for name, (kept, of) in self.classes.items())
        (low, rarest), (high, commonest) = shares[0], shares[-1]
        return (
            f"keeps {self.samples:,} of {self.of:,} samples ({self.rule}), of the teacher's classes {low:.1%} "
            f"({rarest}) to {high:.1%} ({commonest})"
        )


def keep_samples(aligned: Aligned, options: TrainOptions) -> tuple[Aligned, Kept | None]:
    """The samples that `distil.keep` keeps, of the first `run.max_samples`; all of them without a rule.

    A figure of a sample with several views is its mean over them, a fact is one that holds in all, and its class is
    that of the first view. Raises InvalidOption for a rule that keeps nothing, or that the stores can't answer; warns
    with OddSource where a class has lost all of its samples.
    """
    if options.distil.keep is None:
        return aligned, None
    rule, stores = read_rule(options.distil.keep), aligned.labelled
    _check_answerable(rule, aligned)
    names = next((store.class_names for store in stores), None) or aligned.source.class_names
    count = min(options.run.max_samples or len(aligned.source), len(aligned.source))
    rows = _figures(rule, aligned, count=count, given=options.learn.teachers.weight)
    kept_N = np.flatnonzero(rule.keeps(rows))
    if not len(kept_N):
        raise InvalidOption(
            f"distil.keep = {rule.text!r}: keeps none of {count:,} samples{_found(rows)}. Ask for less."
        )
    kept = Kept(rule=rule.text, samples=len(kept_N), of=count, classes=_by_class(rows.classes_N, kept_N, names=names))
    _warn_of_lost_classes(kept)
    assert aligned.store_N is not None, "it has a store"
    store_N = StoreIndex(aligned.store_N[kept_N])
    return replace(aligned, source=chosen(aligned.source, kept_N), store_N=store_N), kept


def _check_answerable(rule: KeepRule, aligned: Aligned) -> None:
    stores = aligned.labelled
    where = f"distil.keep = {rule.text!r}"
    if not stores:
        raise InvalidOption(f"{where}: no store holds soft labels to judge samples by. Leave `distil.keep` out.")
    if "agree" in rule.names and len(stores) < 2:
        raise InvalidOption(
            f"{where}: agree compares the teachers of several stores, and {stores[0].name} is the only one. Give a "
            f"second `store` (with `teachers.weight = [1, 0]` only the first one teaches), or leave agree out."
        )
    if stores[0].labels.units or aligned.replay.mixes:
        what = "several rows a sample" if stores[0].labels.units else "views that are mixed of two samples"
        raise InvalidOption(
            f"{where}: samples are kept or not as a whole, but {stores[0].name} has {what}. Leave it out."
        )
    if rule.names & {"correct", "labelled"} and aligned.targets_N is None:
        raise InvalidOption(
            f"{where}: {aligned.source.name} has no hard targets, or they count other classes than the teacher. Leave "
            f"correct and labelled out."
        )
    for store in map(whole_of, stores) if rule.figures else ():
        if store.k < store.num_classes and store.temperatures[0] > 1:
            raise InvalidOption(
                f"{where}: {rule.figures[0]} is at temperature 1, but {store.name} has tails at "
                f"{', '.join(f'{each:g}' for each in store.temperatures)}. Dump with 1 among `dump.temperature`."
            )


def _figures(rule: KeepRule, aligned: Aligned, *, count: int, given: Sequence[float]) -> RowFigures:
    stores = aligned.labelled
    weights = tuple(given) or (1.0,) * len(stores)
    if len(weights) != len(stores):
        raise InvalidOption(f"{len(weights)} values of `teachers.weight` for {len(stores)} stores. Give one a store.")
    numbers = {name: np.zeros(count) for name in rule.figures}
    facts = {name: np.ones(count, dtype=bool) for name in FACTS if name in rule.names}
    classes_N = np.empty(count, dtype=np.int64)
    targets_N = aligned.targets_N
    for view, rows, labels in _read(aligned, count=count, numbers=bool(numbers)):
        one = one_teacher(labels, given=weights)
        first_B = one.class_ids_BK[:, 0].numpy()
        if view == 0:
            classes_N[rows] = first_B
        for name, values_B in (sureness(one) if numbers else {}).items():
            if name in numbers:
                numbers[name][rows] += values_B.numpy() / stores[0].num_views
        if "agree" in facts:
            facts["agree"][rows] &= agreement(labels).numpy()
        if targets_N is not None and "correct" in facts:
            facts["correct"][rows] &= first_B == targets_N[:count][rows]
    if targets_N is not None and "labelled" in facts:
        facts["labelled"] = targets_N[:count] >= 0
    return RowFigures(numbers=numbers, facts=facts, classes_N=classes_N)


def _read(aligned: Aligned, *, count: int, numbers: bool) -> Iterator[tuple[int, slice, list[SoftLabels]]]:
    """View by view what all teachers said of some samples."""
    assert aligned.store_N is not None, "it has a store"
    stores = [at_temperature(store, 1.0) if numbers else store for store in aligned.labelled]
    for view in range(aligned.num_stored_views):
        for start in range(0, count, ROWS_AT_A_TIME):
            rows = slice(start, min(start + ROWS_AT_A_TIME, count))
            yield view, rows, [store.read(aligned.store_N[rows], view=view) for store in stores]


def _by_class(
    classes_N: NDArray[np.int64], kept_N: NDArray[np.int64], *, names: Sequence[str] | None
) -> dict[str, tuple[int, int]]:
    found, counts = np.unique(classes_N, return_counts=True)
    kept = np.bincount(classes_N[kept_N], minlength=int(found.max()) + 1)
    return {
        (names[each] if names and each < len(names) else str(each)): (int(kept[each]), count)
        for each, count in zip(found.tolist(), counts.tolist(), strict=True)
    }


def _found(rows: RowFigures) -> str:
    told = [f"{name} is {values.min():.4g} to {values.max():.4g} here" for name, values in rows.numbers.items()]
    told += [f"{name} holds for {int(holds.sum()):,}" for name, holds in rows.facts.items()]
    return f" ({', '.join(told)})"


def _warn_of_lost_classes(kept: Kept) -> None:
    lost = [name for name, (count, _) in kept.classes.items() if not count]
    if lost and is_first_rank():
        warnings.warn(
            f"distil.keep = {kept.rule!r}: keeps no sample of {len(lost):,} of the teacher's classes, "
            f"{first_few(lost)}, so that students learn little of them. Ask for less, or for an equal share of each "
            f"class, as with `quantile(max_prob) >= 0.2`",
            OddSource,
            stacklevel=4,
        )
