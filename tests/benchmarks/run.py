"""Measure softlab on this machine: `make bench`, or python -m tests.benchmarks.run --source FOLDER --rounds 5."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from softlab.sources.open import open_source
from softlab.sources.options import SourceOptions
from tests.benchmarks.dumping import bench_dumping
from tests.benchmarks.reading import bench_reading
from tests.benchmarks.replaying import bench_replaying
from tests.benchmarks.report import Report
from tests.benchmarks.students import bench_students
from tests.benchmarks.training import bench_training


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="data/fashion_mnist/train", help="images to dump and train on")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the synthetic store that is read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("RESULTS.md"))
    options = parser.parse_args(arguments)
    source = open_source(SourceOptions(path=options.source, limit=options.limit))
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        bench_dumping(report, Path(name), source, rounds=options.rounds)
        bench_training(report, Path(name), source, rounds=options.rounds)
        bench_students(report, Path(name), source, rounds=options.rounds)
        bench_replaying(report, Path(name), source, rounds=options.rounds)
        bench_reading(report, Path(name), num_samples=options.rows, rounds=options.rounds)
    report.write(options.out)


if __name__ == "__main__":
    main()
