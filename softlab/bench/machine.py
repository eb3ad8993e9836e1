"""What was measured on, in one line."""

import os
import platform
from importlib.metadata import version

import torch


def describe_machine() -> str:
    """Processor, cores, threads of torch, GPU, versions: a figure means nothing without them."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    versions = ", ".join(f"{name} {version(name)}" for name in ["softlab", "torch", "numpy", "zarr", "pyarrow"])
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {device}; "
        f"Python {platform.python_version()}, {versions}"
    )
