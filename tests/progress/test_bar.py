"""The bar as a library's user gives it to what takes a callback; here where nobody watches, as lines on stderr."""

from collections.abc import Callable
from pathlib import Path

import pytest

import softlab
from softlab.progress import displays
from softlab.progress.bar import ProgressBar
from tests.sharing.pulling import PUSH
from tests.sources.pictures import animals
from tests.store.building import copy_store, make_plan
from tests.teacher.dumping import Pictures, make_options, make_teacher


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")


@pytest.fixture
def _a_line_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(displays, "LINE_EVERY_S", 0.0)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# What is shown.


def test_a_log_has_a_line_every_half_minute(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with ProgressBar(unit="files", clock=clock) as bar:
        for done in range(1, 101):
            bar(done, 100)
            clock.now += 1

    assert lines(capsys) == [
        "31/100 files (31%), 1 files/s, 1 min 9 s left",
        "61/100 files (61%), 1 files/s, 39 s left",
        "91/100 files (91%), 1 files/s, 9 s left",
    ]


def test_a_step_that_compiles_a_model_tells_nothing_about_the_others(
    capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    with ProgressBar(unit="steps", clock=clock) as bar:
        for done in range(1, 8):
            bar(done, 1000)
            clock.now += 40.0 if done == 1 else 1.0

    assert lines(capsys)[0] == "2/1,000 steps (0%)"


@pytest.mark.usefixtures("_a_line_each_time")
def test_other_work_has_a_rate_of_its_own(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    def work(unit: str, seconds: float) -> None:
        for done in range(6):
            bar.show(done, 100, unit=unit)
            clock.now += seconds

    with ProgressBar(unit="items", clock=clock) as bar:
        work("samples", 1)
        work("rows", 1)
        work("rows", 4)  # as the next pass of a search

    assert [line for line in lines(capsys) if line.startswith(("0", "5"))] == [
        "0/100 samples (0%)",
        "5/100 samples (5%), 1 samples/s, 1 min 35 s left",
        "0/100 rows (0%)",
        "5/100 rows (5%), 1 rows/s, 1 min 35 s left",
        "0/100 rows (0%)",
        "5/100 rows (5%), 0.25 rows/s, 6 min 20 s left",
    ]


@pytest.mark.usefixtures("_a_line_each_time")
def test_of_several_processes_the_first_one_shows_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")

    with softlab.progress_bar() as bar:
        bar(1, 3)
        bar(2, 3)

    assert lines(capsys) == []


# To what it is given.


@pytest.mark.usefixtures("_a_line_each_time")
def test_a_dump_shows_its_rows_and_what_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with softlab.progress_bar() as bar:
        softlab.dump_teacher(make_teacher(), Pictures(), tmp_path / "store", make_options(), on_progress=bar)

    shown = lines(capsys)
    assert shown[0] == "8/50 rows (16%)  0 B written"
    assert shown[-1].startswith("48/50 rows (96%)  ")


def verify(store: Path, bar: ProgressBar) -> None:
    softlab.verify_store(store, on_file=bar)


def convert(store: Path, bar: ProgressBar) -> None:
    softlab.convert_store(softlab.open_store(store), store.parent / "parquet", format="parquet", on_shard=bar)


def push(store: Path, bar: ProgressBar) -> None:
    softlab.push(store, store.parent / "published/pets", options=PUSH, on_progress=bar)


def pull(store: Path, bar: ProgressBar) -> None:
    softlab.pull(store, store.parent / "copy", softlab.PullOptions(jobs=1), on_bytes=bar)


def scan(store: Path, bar: ProgressBar) -> None:
    options = softlab.SourceOptions(path=str(animals(store.parent / "animals")), skip_unreadable=True)
    softlab.open_source(options, on_scan=bar)


@pytest.mark.usefixtures("_a_line_each_time")
@pytest.mark.parametrize("work", [verify, convert, push, pull, scan])
def test_whatever_tells_how_many_are_done_shows_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, work: Callable[[Path, ProgressBar], None]
) -> None:
    copy_store(tmp_path / "store", make_plan())

    work(tmp_path / "store", softlab.progress_bar(unit="bytes" if work in (push, pull) else "things"))

    shown = lines(capsys)
    assert shown
    assert all("B/" in line if work in (push, pull) else " things (" in line for line in shown)
