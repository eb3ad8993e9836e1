"""How busy a GPU is, and how much memory it takes, while something runs."""

import threading
from collections.abc import Callable

import torch

LOOK_EVERY_S = 0.05


class Watched:
    """A way of working that can be timed, watched while it runs. Its first turn, which warms up, doesn't count."""

    def __init__(self, way: Callable[[], int], device: torch.device) -> None:
        self._way, self._device = way, device
        self._seen: list[int] = []
        self._turns, self.peak_bytes = 0, 0

    @property
    def busy(self) -> float | None:
        """Percent, the mean over all looks; None where nobody tells."""
        return sum(self._seen) / len(self._seen) if self._seen else None

    def __call__(self) -> int:
        self._turns += 1
        if self._device.type != "cuda":
            return self._way()
        torch.cuda.reset_peak_memory_stats(self._device)
        before, done = torch.cuda.memory_allocated(self._device), threading.Event()
        looking = threading.Thread(target=self._look, args=(done,), daemon=True)
        looking.start()
        try:
            return self._way()
        finally:
            done.set()
            looking.join()
            self.peak_bytes = torch.cuda.max_memory_allocated(self._device) - before

    def _look(self, done: threading.Event) -> None:
        if self._turns == 1 or why_unknown() is not None:
            return
        while not done.wait(LOOK_EVERY_S):
            self._seen.append(torch.cuda.utilization(self._device))


def why_unknown() -> str | None:
    """Why nobody tells how busy the GPU is; None where its driver does."""
    try:
        torch.cuda.utilization()
    except ModuleNotFoundError:
        return "how busy the GPU is isn't known without the package nvidia-ml-py"
    except Exception as error:  # the driver's package has errors of its own, as for a part of a GPU
        return f"how busy the GPU is isn't known: {type(error).__name__}: {error}"
    return None
