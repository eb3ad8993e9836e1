"""Small clips, made here."""

from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 8_000


def tone(hertz: float, *, seconds: float = 0.5, rate: int = RATE) -> NDArray[np.float64]:
    """Half as loud as it may be, with a little of its octave."""
    times_T = np.arange(round(seconds * rate)) / rate
    return 0.4 * np.sin(2 * np.pi * hertz * times_T) + 0.1 * np.sin(4 * np.pi * hertz * times_T)


def encode(samples: NDArray[np.float64], *, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of a file."""
    file = BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def write_tones(folder: Path, *, per_class: int = 4) -> Path:
    """Class folders `high` and `low` of wav files, of different lengths."""
    random = np.random.default_rng(0)
    for name, hertz in [("high", 1_500.0), ("low", 300.0)]:
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            samples = tone(hertz * random.uniform(0.8, 1.25), seconds=0.2 + 0.05 * (number % 4))
            (folder / name / f"{number}.wav").write_bytes(encode(samples + 0.01 * random.standard_normal(len(samples))))
    return folder
