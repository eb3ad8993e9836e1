"""Ray clusters of the tests: none ends workers to save memory on a busy machine, and logs go when it does."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def cluster_environment() -> Iterator[dict[str, str]]:
    """Variables for Ray. Its folder is in /tmp itself, as names of sockets may have 107 characters."""
    folder = tempfile.mkdtemp(prefix="softlab-ray-", dir="/tmp")
    try:
        yield {"RAY_memory_monitor_refresh_ms": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": folder}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
