import pytest

from softlab.cli.progress import rows_bar, run_bar, scan_bar
from softlab.progress import displays


@pytest.fixture(autouse=True)
def _a_line_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    monkeypatch.setattr(displays, "LINE_EVERY_S", 0.0)


def test_a_run_shows_what_it_does_one_thing_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    with run_bar() as bar:
        scan_bar(bar)(1, 2)
        bar(3, "a note", 4, unit="rows")

    assert capsys.readouterr().err.splitlines() == [
        "1/2 samples (50%)  looking for unreadable samples",
        "3/4 rows (75%)  a note",
    ]


def test_a_command_of_one_thing_names_its_unit_once(capsys: pytest.CaptureFixture[str]) -> None:
    with rows_bar(unit="files") as bar:
        bar(1, "", 2)

    assert capsys.readouterr().err == "1/2 files (50%)\n"
