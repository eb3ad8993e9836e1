from pathlib import Path

from tests.benchmarks.run import main

TITLES = [
    "## Dumping",
    "## Size",
    "## Training",
    "## Students in one pass",
    "## Replay",
    "## Views in training",
    "## Reading",
]


def test_every_benchmark_runs_and_writes_its_table(tmp_path: Path) -> None:
    main(["--limit", "256", "--rows", "2000", "--rounds", "1", "--out", str(tmp_path / "results.md")])

    titles = [line for line in (tmp_path / "results.md").read_text().splitlines() if line.startswith("## ")]
    assert titles == TITLES
