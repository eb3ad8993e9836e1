"""An import of predictions against reading their file alone."""

# Shape letters: N samples, C classes.

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from softlab.bench.timing import rates
from softlab.sources.source import Source
from softlab.teacher.import_predictions import import_predictions
from softlab.teacher.options import DumpOptions
from tests.benchmarks.report import Report

NUM_CLASSES, K = 1000, 16


def bench_importing(report: Report, folder: Path, source: Source, *, rounds: int) -> None:
    """Logits over 1,000 classes for the whole source, in the order of its samples."""
    file = _write_predictions(folder / "predictions.parquet", source)
    found = rates(
        {
            "read": partial(_read_alone, file),
            "hash": partial(_read_samples, source),
            "both": partial(_read_both, file, source),
            "import": partial(_import_anew, file, source, folder / "imported"),
        },
        rounds=rounds,
    )
    ratio = found["import"] / found["both"]
    report.ratio("import of predictions against reading their file, and the samples", ratio)
    report.section(
        "Importing",
        f"Float32 logits over {NUM_CLASSES:,} classes for {len(source):,} samples of {source.name}, K = {K}; rows a "
        "second of reading the Parquet file into one array, of reading and hashing the samples, of both, and of an "
        "import, which also checks the numbers, selects, measures tails, writes and hashes. The ratio is to both.",
        ["the file alone", "the samples alone", "both", "import", "ratio"],
        [
            [
                *(f"{rate:,.0f}" for rate in found.values()),
                f"{ratio:.3f}",
            ]
        ],
    )


def _write_predictions(file: Path, source: Source) -> Path:
    logits_NC = np.random.default_rng(0).normal(0, 3, (len(source), NUM_CLASSES)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(logits_NC.reshape(-1)), NUM_CLASSES)
    pq.write_table(pa.table({"key": list(source.keys), "logits": lists}), file)
    return file


def _read_alone(file: Path) -> int:
    column = pq.read_table(file).column("logits").combine_chunks()
    return len(column.flatten().to_numpy().reshape(-1, NUM_CLASSES))


def _read_samples(source: Source) -> int:
    return sum(len(source.read(index).content_hash) > 0 for index in range(len(source)))


def _read_both(file: Path, source: Source) -> int:
    _read_alone(file)
    return _read_samples(source)


def _import_anew(file: Path, source: Source, out: Path) -> int:
    """In place of what was imported there before; how many rows."""
    shutil.rmtree(out, ignore_errors=True)
    import_predictions(file, source, out, dump=DumpOptions(k=K))
    return len(source)
