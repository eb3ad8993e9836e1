"""Measure softlab on this machine: `make bench`, or python -m tests.benchmarks.run --source FOLDER --rounds 5."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from softlab.errors import SoftlabError
from softlab.modalities.opening import open_source
from softlab.sources.options import SourceOptions
from tests.benchmarks.compare import machine_of, record, show_comparison
from tests.benchmarks.decoding import bench_decoding
from tests.benchmarks.dumping import bench_dumping, make_teachers
from tests.benchmarks.engines import bench_engines
from tests.benchmarks.figures import read_figures
from tests.benchmarks.gpu.parts import bench_on_gpu
from tests.benchmarks.importing import bench_importing
from tests.benchmarks.memory import bench_memory
from tests.benchmarks.own_loop import bench_own_loop
from tests.benchmarks.peers.bench import bench_peers
from tests.benchmarks.photo_loading import bench_photographs
from tests.benchmarks.reading import bench_reading
from tests.benchmarks.replaying import bench_replaying
from tests.benchmarks.report import RESULTS, Report
from tests.benchmarks.sizes import bench_sizes
from tests.benchmarks.startup import bench_startup
from tests.benchmarks.streaming import bench_streaming
from tests.benchmarks.students import bench_students
from tests.benchmarks.texts import NUM_TEXTS, bench_texts
from tests.benchmarks.tokens import bench_tokens
from tests.benchmarks.training import bench_training
from tests.benchmarks.vocabulary import bench_vocabulary

SMALL = ("--rows", "64000", "--peer-rows", "20000", "--shards", "10000", "--limit", "256")
QUICK_ROUNDS, RECORDED_ROUNDS = "3", "9"
"""More where figures are recorded: they stay, and a quick run doesn't have the time."""


def main(arguments: Sequence[str] | None = None) -> int:
    """1 where a quick run found that something got worse, else 0."""
    options = _parse(sys.argv[1:] if arguments is None else list(arguments))
    if not options.quick:
        report = measure(options)
        report.bars()
        report.write(options.out or RESULTS)
        if not options.small:
            _record(options.out or RESULTS, _parse(["--quick", "--rounds", RECORDED_ROUNDS]))
        return 0
    if options.record:
        _record(options.record, options)
        return 0
    return _compare(options)


def _record(path: Path, options: argparse.Namespace) -> None:
    record(path, measure(options).figures, sizes=_sizes(options))


def _compare(options: argparse.Namespace) -> int:
    before = read_figures(options.against, sizes=_sizes(options))  # first, so that no run of minutes is in vain
    report = measure(options)
    found = show_comparison(report, before, where=str(options.against))
    if options.out:
        report.write(options.out)
    if (then := machine_of(options.against)) != machine_of(report):
        print(
            f"Not judged: {options.against} is of another machine ({then}). On this one, write figures of the older "
            f"code with --quick --record FILE, and compare with --quick --against FILE."
        )
        return 0
    return int(bool(found.worse))


def _sizes(options: argparse.Namespace) -> str:
    return f"{options.limit} images of {options.source}, stores of {options.rows:,} rows"


def _parse(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="data/fashion_mnist/train", help="images to dump and train on")
    parser.add_argument("--rows", type=int, default=1_280_000, help="of the synthetic stores that are read")
    parser.add_argument("--shards", type=int, default=100_000, help="of the synthetic store that is only opened")
    parser.add_argument("--peer-rows", type=int, default=200_000, help="that softlab and its peers store and read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument("--out", type=Path, help="default: RESULTS.md beside this file; with --quick none")
    parser.add_argument("--large", action="store_true", help="read a store of ten times --rows too: minutes")
    parser.add_argument("--small", action="store_true", help="one round of little data")
    parser.add_argument("--quick", action="store_true", help="ratios of little data beside earlier ones, 3 minutes")
    parser.add_argument("--against", type=Path, default=RESULTS, help="with --quick: whose figures")
    parser.add_argument("--record", type=Path, help="with --quick: write its figures into this file, to compare with")
    if "--quick" in given:
        return parser.parse_args([*SMALL, "--rounds", QUICK_ROUNDS, "--small", *given])
    return parser.parse_args([*SMALL, "--rounds", "1", *given] if "--small" in given else given)


def measure(options: argparse.Namespace) -> Report:
    """All benchmarks; of a quick run those that give ratios of ways that took turns, on one thread: then they scatter
    less, and hang less on the machine."""
    if options.quick:
        torch.set_num_threads(1)
    source = open_source(SourceOptions(path=options.source, limit=options.limit))
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        teachers = make_teachers()
        bench_dumping(report, Path(name), source, teachers, rounds=options.rounds)
        first, *_ = teachers.values()
        bench_engines(report, Path(name), source, first[0], rounds=options.rounds, has_ray=not options.small)
        bench_startup(report, Path(name), source, rounds=options.rounds)
        bench_importing(report, Path(name), source, rounds=options.rounds)
        if not options.quick:
            bench_sizes(report, Path(name), source, teachers)
        bench_training(report, Path(name), source, rounds=options.rounds, only_small=options.quick)
        num_texts = min(options.limit or NUM_TEXTS, NUM_TEXTS)
        bench_texts(report, Path(name), rounds=options.rounds, num_texts=num_texts, only_small=options.quick)
        bench_tokens(report, Path(name), rounds=options.rounds, is_quick=options.small, only_ratios=options.quick)
        num_rows = 64 if options.small else 1024
        bench_vocabulary(report, Path(name), num_rows=num_rows, rounds=options.rounds, only_ratios=options.quick)
        bench_own_loop(report, Path(name), source, rounds=options.rounds, only_small=options.quick)
        bench_streaming(report, Path(name), source, rounds=options.rounds)
        bench_students(report, Path(name), source, rounds=options.rounds)
        bench_decoding(report, Path(name), rounds=options.rounds)
        bench_replaying(report, Path(name), source, rounds=options.rounds)
        bench_photographs(report, Path(name), rounds=options.rounds, count=32 if options.small else 2000)
        bench_reading(
            report,
            Path(name),
            num_samples=options.rows,
            rounds=options.rounds,
            large=options.large,
            num_shards=options.shards,
            only_first=options.quick,
        )
        if not options.quick:
            bench_memory(report, Path(name), num_samples=options.rows)
            bench_peers(report, Path(name), num_samples=options.peer_rows, rounds=options.rounds)
        if torch.cuda.is_available() and not options.small:
            bench_on_gpu(report)
    return report


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SoftlabError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
