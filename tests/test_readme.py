"""The README is run: every command and every line of Python in it, in their order, beside a part of the real data."""

import re
import shlex
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from softlab.cli.main import COMMANDS, main

PART = {"train": 1000, "test": 200}
"""So many images of each."""

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SHELL_LINES = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


@pytest.fixture
def _beside_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    data, whole = tmp_path / "data/fashion_mnist", ROOT / "data/fashion_mnist"
    for name, count in PART.items():
        (file,) = (whole / name).glob("*.parquet")
        (data / name).mkdir(parents=True)
        pq.write_table(pq.read_table(file).slice(0, count), data / name / file.name)
    (data / "teacher.safetensors").symlink_to(whole / "teacher.safetensors")
    monkeypatch.chdir(tmp_path)


@pytest.mark.process
@pytest.mark.usefixtures("_beside_the_data")
def test_every_command_and_the_python_of_the_readme_run() -> None:
    for line in SHELL_LINES:
        program, *arguments = shlex.split(line)
        if program == "openssl":
            subprocess.run([program, *arguments], check=True, capture_output=True)
            continue
        assert program == "softlab"
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code in (0, None), line

    python = "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    exec(compile(python, "README.md", "exec"), {})


def test_every_command_is_shown_in_the_readme() -> None:
    assert {line.split()[1] for line in SHELL_LINES if line.startswith("softlab ")} == set(COMMANDS)


def test_no_figure_is_left_to_be_filled_in() -> None:
    assert re.findall(r"[A-Z]+_[A-Z]+", re.sub(r"```.*?```|`[^`]*`", "", README, flags=re.DOTALL)) == []


def test_every_file_that_the_readme_links_to_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
