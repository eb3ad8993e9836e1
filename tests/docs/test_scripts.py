"""Scripts of `pipelines` run from end to end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_sharing_refuses_what_was_tampered_with(tmp_path: Path) -> None:
    for name in ("data", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)

    ended = subprocess.run(
        [sys.executable, "pipelines/sharing.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "NOT intact" in ended.stdout
