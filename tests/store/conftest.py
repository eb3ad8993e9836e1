"""Parts of the machine that tests of stores need: other processes, and a disk that is soon full."""

import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.store.format_contract")


@pytest.fixture(scope="package")
def workers() -> Iterator[ProcessPoolExecutor]:
    """Two fresh processes, shared by all tests because each imports torch anew."""
    with ProcessPoolExecutor(max_workers=2, mp_context=get_context("spawn")) as pool:
        yield pool


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
