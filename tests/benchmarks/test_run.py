from pathlib import Path

import pytest

from tests.benchmarks.run import main

pytestmark = [pytest.mark.process, pytest.mark.slow]

TITLES = [
    "## Dumping",
    "## Importing",
    "## Size",
    "## Size by K",
    "## Training",
    "## Training on texts",
    "## Bytes of a text",
    "## Padding of batches",
    "## Units in the row cache",
    "## Losses over a large vocabulary",
    "## A loop of one's own",
    "## Streaming",
    "## Students in one pass",
    "## Decoding photographs",
    "## Kept images",
    "## Replay",
    "## Views in training",
    "## Photographs",
    "## Reading",
    "## Reading features",
    "## Growth",
    "## Memory",
    "## Peers",
    "## Bars",
]


def test_every_benchmark_runs_and_writes_its_table(tmp_path: Path) -> None:
    sizes = ["--rows", "2000", "--peer-rows", "2000", "--shards", "100"]

    main(["--quick", "--large", *sizes, "--out", str(tmp_path / "results.md")])

    titles = [line for line in (tmp_path / "results.md").read_text().splitlines() if line.startswith("## ")]
    assert [title for title in titles if title != "## On a GPU"] == TITLES
