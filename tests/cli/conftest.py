"""The program in this process, and stores of the demo's data."""

import shutil
import warnings
from pathlib import Path

import pytest

from softlab.cli.main import main
from tests.cli.program import SMALL, TEACHER, TEST, TRAIN, Answer, Softlab


@pytest.fixture
def softlab(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Softlab:
    """Runs the program in this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the program puts its own there
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = stopped.value.code or 0
        assert isinstance(code, int)
        return Answer(code=code, out=out, err=err)

    return run


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished stores of 200 training and 100 test images."""
    folder = tmp_path_factory.mktemp("stores")
    for name, source in [("train.zarr", TRAIN), ("test.zarr", TEST)]:
        with pytest.raises(SystemExit) as stopped:
            main(["dump-teacher", "--out", str(folder / name), *TEACHER, *source, *SMALL])
        assert not stopped.value.code
    return folder


@pytest.fixture
def store(stores: Path, tmp_path: Path) -> Path:
    """One's own copy of the finished training store, to damage."""
    return shutil.copytree(stores / "train.zarr", tmp_path / "store")
