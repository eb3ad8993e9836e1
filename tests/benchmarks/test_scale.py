from pathlib import Path

import pytest

from tests.benchmarks.scale import PARTS, main

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_every_part_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--samples", "3000", "--folder", str(tmp_path)])

    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [title.removeprefix("| ") for title, *_ in table] == list(PARTS)
    assert sum(float(seconds) for *_, seconds, _ in table) > 0.1
