"""Which GPU it was, with its driver and versions: figures mean nothing without them."""

import re
import subprocess
from pathlib import Path

import torch

from tests.benchmarks.report import RESULTS, describe_machine


def describe_gpu(device: torch.device) -> str:
    """Of a CPU the machine alone."""
    if device.type != "cuda":
        return describe_machine()
    memory = torch.cuda.get_device_properties(device).total_memory / 1e9
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return (
        f"{torch.cuda.get_device_name(device)}, {memory:.0f} GB, driver {_driver()}, CUDA {torch.version.cuda}, cuDNN "
        f"{cudnn}; {describe_machine()}"
    )


def results_of(device: torch.device) -> Path | None:
    """Beside RESULTS.md, with the GPU's name."""
    if device.type != "cuda":
        return None
    name = re.sub(r"[^A-Za-z0-9]+", "-", torch.cuda.get_device_name(device)).strip("-")
    return RESULTS.with_name(f"RESULTS-{name}.md")


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"
