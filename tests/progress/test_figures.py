import pytest

from softlab.progress.figures import Figures


@pytest.mark.parametrize(
    ("done", "total", "unit", "note", "rate", "text"),
    [
        (1200, 5000, "rows", "epoch 2", 310.4, "1,200/5,000 rows (24%), 310 rows/s, 12 s left  epoch 2"),
        (1200, 5000, "rows", "", None, "1,200/5,000 rows (24%)"),
        (1200, None, "rows", "", 310.4, "1,200 rows, 310 rows/s"),
        (1, 500, "steps", "", 0.25, "1/500 steps (0%), 0.25 steps/s, 33 min 16 s left"),
        (1, 2, "steps", "", 0.0, "1/2 steps (50%)"),
        (2, 2, "steps", "", 3.0, "2/2 steps (100%), 3 steps/s"),
        (0, 0, "files", "", None, "0 files"),
        (12_300_000, 45_600_000, "bytes", "", 3.2e6, "12.3 MB/45.6 MB (27%), 3.2 MB/s, 10 s left"),
        (0, 59_400, "rows", "", 1000.0, "0/59,400 rows (0%), 1,000 rows/s, 59 s left"),
        (0, 59_600, "rows", "", 1000.0, "0/59,600 rows (0%), 1,000 rows/s, 1 min 0 s left"),
    ],
)
def test_figures_are_a_line(done: int, total: int | None, unit: str, note: str, rate: float | None, text: str) -> None:
    assert Figures(done=done, total=total, unit=unit, note=note, rate=rate).text == text
