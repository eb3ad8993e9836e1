from pathlib import Path

import pytest

from softlab.errors import InvalidOption
from tests.benchmarks.figures import Figure, read_figures
from tests.benchmarks.report import Report
from tests.benchmarks.run import main

LONG_TEXTS = "ignore:.*lose their end:softlab.errors.OddSource"
"""A few of them are among texts whose lengths are as those of real ones."""

FEW = ["--rows", "2000", "--limit", "64"]
SIZES = "64 images of data/fashion_mnist/train, stores of 2,000 rows"

TITLES = [
    "## Dumping",
    "## Sharing a dump",
    "## Starting",
    "## Validations",
    "## Importing",
    "## Size",
    "## Size by K",
    "## Training",
    "## Training on texts",
    "## Bytes of a text",
    "## Padding of batches",
    "## Units in the row cache",
    "## Rows of a language model",
    "## Stored rows of tokens",
    "## Training on tokens",
    "## Memory of sampling a vocabulary",
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


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.filterwarnings(LONG_TEXTS)
def test_every_benchmark_runs_and_writes_its_table(tmp_path: Path) -> None:
    sizes = ["--rows", "2000", "--peer-rows", "2000", "--shards", "100"]

    main(["--small", "--large", *sizes, "--out", str(tmp_path / "results.md")])

    titles = [line for line in (tmp_path / "results.md").read_text().splitlines() if line.startswith("## ")]
    assert [title for title in titles if title != "## On a GPU"] == TITLES


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.filterwarnings(LONG_TEXTS)
def test_a_quick_run_measures_ratios_with_their_noise(tmp_path: Path) -> None:
    assert main(["--quick", *FEW, "--rounds", "1", "--record", str(tmp_path / "results.md")]) == 0

    figures = read_figures(tmp_path / "results.md", sizes=SIZES)
    for start in ("dump against", "training on stored", "random batches", "replaying views", "seconds of one pass"):
        assert any(what.startswith(start) for what in figures)


def quick(monkeypatch: pytest.MonkeyPatch, results: Path, value: float, *, machine: str | None = None) -> int:
    """A quick run that finds one figure, beside those of a file."""

    def measure(_: object) -> Report:
        report = Report(machine=machine)
        report.figures["dump"] = Figure(value=value, lowest=value, highest=value)
        return report

    monkeypatch.setattr("tests.benchmarks.run.measure", measure)
    return main(["--quick", *FEW, "--against" if results.is_file() else "--record", str(results)])


@pytest.mark.parametrize(("now", "code"), [(1.0, 0), (0.98, 0), (1.5, 0), (0.8, 1)])
def test_a_quick_run_fails_where_something_got_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: float, code: int
) -> None:
    results = tmp_path / "results.md"

    assert quick(monkeypatch, results, 1.0) == 0
    assert quick(monkeypatch, results, now) == code


def test_figures_of_another_machine_are_shown_and_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.md"
    quick(monkeypatch, results, 1.0)

    code = quick(monkeypatch, results, 0.5, machine="arm64, 99 cores, no GPU; Python 3.11.7")

    assert code == 0
    shown = capsys.readouterr().out
    assert "| worse | dump |" in shown
    assert "Not judged" in shown


def test_without_earlier_figures_a_quick_run_says_so_before_it_measures(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="Write it first: --quick --record"):
        main(["--quick", "--against", str(tmp_path / "nothing.md")])
