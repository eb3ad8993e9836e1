"""Reads of synthetic stores of several shapes and sizes, as `softlab bench` measures them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softlab.bench.reading import ReadRate, measure_reading
from softlab.bench.store_figures import StoreFigures, measure_store
from softlab.bench.timing import rates
from softlab.store.cache import CacheOptions
from softlab.store.format import FormatName
from softlab.store.reader import open_store
from tests.benchmarks.report import Report
from tests.benchmarks.stores import write_manifest_alone, write_synthetic_store

MANY_SHARDS = 100_000
FEW_TURNS = 5
"""Of one store alone, where they are short."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A synthetic store."""

    k: int = 16
    num_classes: int = 1000
    form: FormatName = "zarr"
    feature_width: int | None = None
    share: float = 1.0
    """Of the rows that are asked for: wide ones are fewer."""

    @property
    def title(self) -> str:
        feature = "" if self.feature_width is None else f", {self.feature_width} features"
        return f"{self.form}, K = {self.k} of {self.num_classes:,}{feature}"


CASES = (
    Case(),
    Case(form="parquet"),
    Case(k=32, num_classes=50_000, share=0.25),
    Case(k=256, num_classes=200_000, share=0.05),
    Case(feature_width=768, share=0.1),
)
GROWTH = (Case(share=0.1), Case())
LARGE = Case(share=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One case."""

    case: Case
    store: StoreFigures
    reads: list[ReadRate]

    def relative(self, *kind: str, group: str = "labels") -> str:
        return f"{self.find(*kind, group=group).relative:.3f}"

    def rate(self, *kind: str, group: str = "labels") -> float:
        return self.find(*kind, group=group).rows_per_second

    def find(self, *kind: str, group: str = "labels") -> ReadRate:
        (found,) = [read for read in self.reads if (read.order, read.place, read.form) == kind and read.group == group]
        return found


def bench_reading(
    report: Report,
    folder: Path,
    *,
    num_samples: int,
    rounds: int,
    large: bool = False,
    num_shards: int = MANY_SHARDS,
    only_first: bool = False,
) -> None:
    """`large` adds a store of ten times as many rows; `only_first` leaves all stores out but one."""
    if only_first:
        _report_ratios(report, _measure(CASES[0], folder, num_samples=num_samples, rounds=FEW_TURNS * rounds))
        return
    wanted = dict.fromkeys([*CASES, *GROWTH, *([LARGE] if large else [])])
    measured = {case: _measure(case, folder, num_samples=num_samples, rounds=rounds) for case in wanted}
    _report_ratios(report, measured[CASES[0]])
    _report_labels(report, [measured[case] for case in CASES])
    _report_features(report, [measured[case] for case in CASES if case.feature_width is not None])
    growing = [measured[case] for case in (*GROWTH, LARGE) if case in measured]
    _report_growth(report, growing, folder, num_shards=num_shards)


def _report_ratios(report: Report, first: Measured) -> None:
    report.bar(
        "random batches of 256 packed rows from the row cache, against np.take",
        first.find("random", "row cache", "packed").relative,
        at_least=0.8,
    )
    report.bar(
        "the same block-shuffled from compressed shards",
        first.find("block-shuffled", "compressed shards", "packed").relative,
        at_least=0.4,
    )
    for kind in [("random", "row cache", "tensors"), ("block-shuffled", "compressed shards", "tensors")]:
        report.ratio(f"labels read as tensors, {', '.join(kind[:2])}, against np.take", first.find(*kind).relative)


def _measure(case: Case, folder: Path, *, num_samples: int, rounds: int) -> Measured:
    path = write_synthetic_store(
        folder / "reading",
        form=case.form,
        num_samples=max(round(case.share * num_samples), 1),
        k=case.k,
        num_classes=case.num_classes,
        feature_width=case.feature_width,
    )
    reads = measure_reading(path, rounds=rounds, cache=CacheOptions(dir=folder / "cache"))
    found = Measured(case=case, store=measure_store(path), reads=reads)
    shutil.rmtree(path)
    return found


def _report_labels(report: Report, measured: Sequence[Measured]) -> None:
    kinds = {
        "random, packed": ("random", "row cache", "packed"),
        "random, tensors": ("random", "row cache", "tensors"),
        "in order, tensors": ("in order", "row cache", "tensors"),
        "compressed, block-shuffled, packed": ("block-shuffled", "compressed shards", "packed"),
        "compressed, block-shuffled, tensors": ("block-shuffled", "compressed shards", "tensors"),
        "compressed, in order, tensors": ("in order", "compressed shards", "tensors"),
        "first touch": ("in order", "first touch", "packed"),
    }
    report.section(
        "Reading",
        "Labels in batches of 256 rows; np.take on a memory-mapped file of the same packed rows in rows per second, "
        "other ways relative to it. Random and in order: from the row cache; packed, as rows are handed to another "
        "process, or as tensors ready for a loss. Compressed: from shards of which none is decoded before, each read, "
        "verified and decoded within the time. First touch: filling the row cache, the files' pages dropped before.",
        ["store", "rows", "np.take", *kinds],
        [
            [
                each.case.title,
                f"{each.store.num_rows:,}",
                f"{each.rate('random', 'plain file', 'packed'):,.0f}",
                *(each.relative(*kind) for kind in kinds.values()),
            ]
            for each in measured
        ],
    )


def _report_features(report: Report, measured: Sequence[Measured]) -> None:
    group = "features/wide"
    report.section(
        "Reading features",
        "The same for a float16 feature, read as float32 tensors.",
        ["store", "rows", "np.take", "random, row cache", "compressed, in order", "first touch"],
        [
            [
                each.case.title,
                f"{each.store.num_rows:,}",
                f"{each.rate('random', 'plain file', 'packed', group=group):,.0f}",
                each.relative("random", "row cache", "tensors", group=group),
                each.relative("in order", "compressed shards", "tensors", group=group),
                each.relative("in order", "first touch", "packed", group=group),
            ]
            for each in measured
        ],
    )


def _report_growth(report: Report, measured: Sequence[Measured], folder: Path, *, num_shards: int) -> None:
    path = write_manifest_alone(folder / "many-shards", num_shards=num_shards)
    opens = rates({"open": lambda: 1 if open_store(path) else 0}, rounds=1)["open"]
    report.bar(f"seconds to open a store of {num_shards:,} shards", 1 / opens, at_most=1)
    rows = [
        [
            f"{each.store.num_rows:,}",
            f"{each.store.num_shards:,}",
            f"{each.store.open_seconds:.4f}",
            f"{each.store.bytes_per_row['all']:.1f}",
            f"{each.store.num_rows / each.rate('in order', 'compressed shards', 'packed'):.2f}",
            f"{each.store.num_rows / each.rate('in order', 'first touch', 'packed'):.2f}",
        ]
        for each in measured
    ]
    report.section(
        "Growth",
        "K = 16 of 1,000 classes, zarr. Opening reads and checks the manifest; all rows: at the rate at which some "
        "shards were read compressed, or decoded into an empty row cache. The last store is a manifest alone.",
        ["rows", "shards", "opening, s", "bytes per row", "all rows compressed, s", "filling the row cache, s"],
        [*rows, ["-", f"{num_shards:,}", f"{1 / opens:.4f}", "-", "-", "-"]],
    )
