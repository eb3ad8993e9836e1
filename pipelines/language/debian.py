"""Files of Debian packages, whether they are installed or not."""

import subprocess
from pathlib import Path


def files_of(package: str, path: str, *, downloads: Path) -> Path:
    """Where a path of a package is: on this system, or below a folder where apt downloads it (no root is needed)."""
    installed = Path("/") / path
    if installed.exists():
        return installed
    unpacked = downloads / package
    if not (unpacked / path).exists():
        unpacked.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=unpacked, check=True)
        (file,) = unpacked.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", file.name, "."], cwd=unpacked, check=True)
    return unpacked / path
