import pytest

from softlab.cli import progress
from softlab.cli.progress import run_bar, scan_bar


@pytest.fixture
def _a_line_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)


@pytest.mark.usefixtures("_a_line_each_time")
def test_a_run_shows_what_it_does_one_thing_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    with run_bar() as bar:
        for done in (1, 2):
            scan_bar(bar)(done, 2)
        for done in (1, 3):
            bar(done, "note", 4, unit="rows")

    samples, rows = capsys.readouterr().err.splitlines()
    assert samples.startswith("2/2 samples (100%), ")
    assert samples.endswith(" samples/s, 0 s left  looking for unreadable samples")
    assert rows.startswith("3/4 rows (75%), ")
    assert rows.endswith(" s left  note")


@pytest.mark.usefixtures("_a_line_each_time")
def test_another_pass_over_the_same_things_has_a_rate_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with run_bar() as bar:
        for done in (1, 2, 1, 2):
            bar(done, "", 2, unit="steps")

    assert [line[:18] for line in capsys.readouterr().err.splitlines()] == ["2/2 steps (100%), "] * 2


@pytest.mark.usefixtures("_a_line_each_time")
def test_of_several_processes_the_first_one_shows_the_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")

    with run_bar() as bar:
        for done in (1, 2):
            scan_bar(bar)(done, 2)

    assert capsys.readouterr().err == ""
