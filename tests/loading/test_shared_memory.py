"""Batches of loader processes go through shared memory, of which a container may have little."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from softlab.errors import InvalidOption
from softlab.loading import shared_memory
from softlab.loading.shared_memory import check_shared_memory
from tests.cli.program import INPUT, SMALL, TEACHER, TRAIN

MIB = 1 << 20

PROGRAM = """
import sys
from softlab.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB, as in Docker."""
    found = SimpleNamespace(f_bavail=64 * MIB // 4096, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda path: found)


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(("batch_mib", "workers"), [(6, 4), (1, 31), (16, 1), (0, 1000)])
def test_what_fits_is_let_through(batch_mib: int, workers: int) -> None:
    check_shared_memory(batch_mib * MIB, workers=workers)


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    ("batch_mib", "workers", "way_out"),
    [
        (7, 4, "Say `device.workers = 3` or `device.workers = 0`, make batches smaller, or make it larger (docker run"),
        (154, 8, "Say `device.workers = 0`, make batches smaller, or make it larger (docker run --shm-size=8g)."),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(batch_mib: int, workers: int, way_out: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        check_shared_memory(batch_mib * MIB, workers=workers)

    assert way_out in str(refused.value)


@pytest.mark.usefixtures("free")
def test_processes_that_share_a_machine_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_shared_memory(10 * MIB, workers=2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")

    with pytest.raises(InvalidOption, match=r"up to 125\.8 MB at a time"):
        check_shared_memory(10 * MIB, workers=2)


def test_a_system_without_it_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", Path("/no/such/place"))

    check_shared_memory(1 << 50, workers=8)


@pytest.mark.process
@pytest.mark.slow
def test_torch_puts_what_processes_share_there_by_each_of_its_strategies() -> None:
    code = (
        "import torch\n"
        "for strategy in torch.multiprocessing.get_all_sharing_strategies():\n"
        "    torch.multiprocessing.set_sharing_strategy(strategy)\n"
        "    shared = torch.zeros(100_000).share_memory_()\n"
        "    print(any('/dev/shm/torch_' in line for line in open('/proc/self/maps')))\n"
        "    del shared\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(answer.stdout.split()) == {"True"}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("command", ["dump-teacher", "train-teacher", "evaluate"])
def test_commands_with_little_of_it_are_refused_before_the_first_batch(tmp_path: Path, command: str) -> None:
    """On a real /dev/shm of 64 KiB, where only these processes see it."""
    arguments = {
        "dump-teacher": (*TEACHER, *TRAIN, *SMALL, "--out", "store"),
        "train-teacher": ("--teacher", "softlab:grey_mlp", *INPUT, *TRAIN, "--epochs", "1", "--out", "run"),
        "evaluate": ("--model", *TEACHER[1:], *TRAIN),
    }[command]
    given = (command, *arguments, "--device", "cpu", "--workers", "2", "--batch-size", "50")

    mounted = 'mount -t tmpfs -o size=64k tmpfs /dev/shm || exit 77; exec "$@"'
    answer = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, "sh", sys.executable, "-c", PROGRAM, *map(str, given)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )

    if answer.returncode == 77 or "unshare" in answer.stderr:
        pytest.skip("no small /dev/shm can be mounted here")
    assert answer.returncode == 1, answer.stderr
    assert answer.stderr.startswith("error: /dev/shm: has 65.5 kB free, but 2 loader processes hand over batches of ")
    assert "Say `device.workers = 0` (--workers 0), make batches smaller, or make it larger" in answer.stderr
    assert answer.stderr.count("\n") == 1
