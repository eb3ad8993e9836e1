import re
from types import SimpleNamespace

import pytest
import torch

from softlab.errors import InvalidOption
from softlab.models.device import choose_device, count_devices


def has_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("wanted", "device", "found", "expected"),
    [
        (1, "auto", 0, 1),
        (1, "cuda:1", 2, 1),
        (1, "mps", 0, 1),
        (2, "auto", 4, 2),
        (4, "cuda", 4, 4),
        (None, "auto", 4, 4),
        (None, "cuda", 1, 1),
        (3, "cpu", 0, 3),  # the CPU can be shared
    ],
)
def test_as_many_processes_as_wanted_or_as_there_are_gpus(
    monkeypatch: pytest.MonkeyPatch, wanted: int | None, device: str, found: int, expected: int
) -> None:
    has_gpus(monkeypatch, found)

    assert count_devices(wanted, device=device) == expected


@pytest.mark.parametrize(
    ("wanted", "device", "found", "message"),
    [
        (
            4,
            "auto",
            1,
            "devices = 4: found 1 GPU, expected 4 or more. Say `dump.devices = all` for those that there are.",
        ),
        (3, "cuda", 2, "devices = 3: found 2 GPUs, expected 3 or more."),
        (2, "auto", 0, "devices = 2: found 0 GPUs, expected 2 or more. Leave `dump.devices` out."),
        (None, "auto", 0, "devices = all: found 0 GPUs, expected 1 or more. Leave `dump.devices` out."),
        (
            *(None, "cpu", 2),
            "devices = all with device = cpu: each process takes a GPU of its own. Leave `device.name` out, or "
            "`dump.devices`.",
        ),
        (2, "mps", 0, "devices = 2 with device = mps: each process takes a GPU of its own."),
    ],
)
def test_fewer_gpus_than_wanted_are_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, wanted: int | None, device: str, found: int, message: str
) -> None:
    has_gpus(monkeypatch, found)

    with pytest.raises(InvalidOption, match=re.escape(message)):
        count_devices(wanted, device=device)


def test_each_of_several_processes_asks_for_the_gpu_of_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so high a number that no machine has it."""
    for name, value in {"WORLD_SIZE": "200", "LOCAL_RANK": "99"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(InvalidOption, match="device 'cuda:99': "):
        choose_device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.gpu
def test_a_process_of_its_own_has_torchs_current_gpu() -> None:
    assert choose_device("auto") == torch.device("cuda")


@pytest.mark.parametrize(("found", "expected"), [(4, "cuda:3"), (1, "cuda:0"), (2, "cuda:1")])
def test_a_task_of_srun_has_the_gpu_of_its_number_or_the_only_one_that_slurm_shows_it(
    monkeypatch: pytest.MonkeyPatch, found: int, expected: str
) -> None:
    has_gpus(monkeypatch, found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda _, *, device: SimpleNamespace(device=torch.device(device)))
    for name, value in {"STEP_ID": "0", "NTASKS": "8", "PROCID": "7", "LOCALID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)

    assert str(choose_device("auto")) == expected
