"""`softlab chain`: several commands from one recipe, those that are finished skipped."""

from pathlib import Path

import pytest

from tests.cli.program import Softlab, assert_refused
from tests.recipes.demo import ASSISTANT, COMMON

OUTS = ("teacher", "teacher.zarr", "assistant", "assistant.zarr", "student")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the recipes' paths are relative to."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str) -> str:
    Path("chain.toml").write_text(text)
    return "chain.toml"


def files(folder: Path) -> dict[str, int]:
    """When each was written last."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_a_chain_runs_its_stages_and_skips_them_when_they_are_finished(here: Path, softlab: Softlab) -> None:
    first = softlab("chain", write(COMMON + ASSISTANT))
    written = files(here)
    second = softlab("chain", "chain.toml")

    commands = ["train-teacher", "dump-teacher", "train-student", "dump-teacher", "train-student"]
    stages = enumerate(zip(commands, OUTS, strict=True), start=1)
    told = [f"== {number} of 5: {command} {out}" for number, (command, out) in stages]
    assert (first.code, first.err.splitlines()) == (0, told)
    assert (second.code, second.err.splitlines()) == (0, told)
    assert second.out.count("nothing to do, it was finished") == 2
    assert first.out.count("nothing to do") == 0
    assert files(here) == written


def test_a_chain_that_was_stopped_goes_on_with_the_stage_that_is_not_finished(here: Path, softlab: Softlab) -> None:
    recipe = write(COMMON + ASSISTANT.replace("teacher/teacher/last", "teacher/teacher/lst"))
    stopped = softlab("chain", recipe)
    written = files(here)
    del written["chain.toml"]

    answer = softlab("chain", write(COMMON + ASSISTANT))

    assert stopped.code == 1
    assert stopped.err.endswith("error: teacher/teacher/lst.safetensors: no such file. Check `weights`.\n")
    assert {Path(name).parts[0] for name in written} == {"teacher"}
    assert answer.code == 0
    assert files(here).items() >= written.items()
    assert all((here / out).exists() for out in OUTS)


def test_a_wrong_chain_is_refused_before_any_stage_runs(here: Path, softlab: Softlab) -> None:
    answer = softlab("chain", write(COMMON + ASSISTANT.replace("dump.k = 6", "dump.kk = 6")))

    assert_refused(answer, "error: chain.toml: stage 2 (dump-teacher): unknown key dump.kk. Did you mean")
    assert [path.name for path in here.iterdir()] == ["chain.toml"]
