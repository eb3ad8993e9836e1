"""Measure softlab on this machine: `make bench`, or python -m tests.benchmarks.run --source FOLDER --rounds 5."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from softlab.modalities.opening import open_source
from softlab.sources.options import SourceOptions
from tests.benchmarks.decoding import bench_decoding
from tests.benchmarks.dumping import bench_dumping, make_teachers
from tests.benchmarks.engines import bench_engines
from tests.benchmarks.gpu import Work, bench_on_gpu, small
from tests.benchmarks.importing import bench_importing
from tests.benchmarks.memory import bench_memory
from tests.benchmarks.own_loop import bench_own_loop
from tests.benchmarks.peers.bench import bench_peers
from tests.benchmarks.photo_loading import bench_photographs
from tests.benchmarks.reading import bench_reading
from tests.benchmarks.replaying import bench_replaying
from tests.benchmarks.report import Report
from tests.benchmarks.sizes import bench_sizes
from tests.benchmarks.streaming import bench_streaming
from tests.benchmarks.students import bench_students
from tests.benchmarks.texts import NUM_TEXTS, bench_texts
from tests.benchmarks.tokens import bench_tokens
from tests.benchmarks.training import bench_training
from tests.benchmarks.vocabulary import bench_vocabulary

RESULTS = Path(__file__).with_name("RESULTS.md")
QUICK = ("--rows", "64000", "--peer-rows", "20000", "--shards", "10000", "--rounds", "1", "--limit", "256")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="data/fashion_mnist/train", help="images to dump and train on")
    parser.add_argument("--rows", type=int, default=1_280_000, help="of the synthetic stores that are read")
    parser.add_argument("--shards", type=int, default=100_000, help="of the synthetic store that is only opened")
    parser.add_argument("--peer-rows", type=int, default=200_000, help="that softlab and its peers store and read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=int, help="only the first images")
    parser.add_argument("--out", type=Path, help="default: RESULTS.md beside this file; none with --quick")
    parser.add_argument("--large", action="store_true", help="read a store of ten times --rows too: minutes")
    parser.add_argument("--quick", action="store_true", help="one round of little data, under two minutes")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args([*QUICK, *given] if "--quick" in given else given)
    source = open_source(SourceOptions(path=options.source, limit=options.limit))
    report = Report()
    with tempfile.TemporaryDirectory() as name:
        teachers = make_teachers()
        bench_dumping(report, Path(name), source, teachers, rounds=options.rounds)
        first, *_ = teachers.values()
        bench_engines(report, Path(name), source, first[0], rounds=options.rounds, has_ray=options.rounds > 1)
        bench_importing(report, Path(name), source, rounds=options.rounds)
        bench_sizes(report, Path(name), source, teachers)
        bench_training(report, Path(name), source, rounds=options.rounds)
        num_texts = min(options.limit or NUM_TEXTS, NUM_TEXTS)
        bench_texts(report, Path(name), rounds=options.rounds, num_texts=num_texts)
        bench_tokens(report, Path(name), rounds=options.rounds, is_quick=options.rounds == 1)
        bench_vocabulary(report, Path(name), num_rows=64 if options.rounds == 1 else 1024, rounds=options.rounds)
        bench_own_loop(report, Path(name), source, rounds=options.rounds)
        bench_streaming(report, Path(name), source, rounds=options.rounds)
        bench_students(report, Path(name), source, rounds=options.rounds)
        bench_decoding(report, Path(name), rounds=options.rounds)
        bench_replaying(report, Path(name), source, rounds=options.rounds)
        bench_photographs(report, Path(name), rounds=options.rounds, count=32 if options.rounds == 1 else 2000)
        bench_reading(
            report,
            Path(name),
            num_samples=options.rows,
            rounds=options.rounds,
            large=options.large,
            num_shards=options.shards,
        )
        bench_memory(report, Path(name), num_samples=options.rows)
        if torch.cuda.is_available():
            bench_on_gpu(report, Path(name), small(Work()) if options.quick else Work(), rounds=options.rounds)
        bench_peers(report, Path(name), num_samples=options.peer_rows, rounds=options.rounds)
    report.bars()
    if options.out or not options.quick:
        report.write(options.out or RESULTS)


if __name__ == "__main__":
    main()
