"""Training runs of tiny students, made once for all tests of the report."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.store.reader import open_store
from softlab.student.loop import TrainProgress
from tests.student.fashion import dump, make_student, train


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a student beside its baseline (`seed-0`, `seed-1`), one stopped in its second epoch of two
    (`stopped`), one that failed in its second epoch beside another (`failed`), and one on hard targets alone without
    validation (`bare`)."""
    folder = tmp_path_factory.mktemp("runs")
    stores = {part: open_store(dump(folder / part, part, k=4)) for part in ("train", "test")}
    for seed in (0, 1):
        student, out = make_student(seed=seed), folder / f"seed-{seed}"
        train(student, stores["train"], valid=stores["test"], out=out, baseline=True, seed=seed)
    with pytest.raises(KeyboardInterrupt):
        train(make_student(), stores["train"], valid=stores["test"], out=folder / "stopped", on_progress=stop_at_8)
    failing = {"small": Failing(), "other": make_student()}
    train(failing, stores["train"], valid=stores["test"], out=folder / "failed")
    train(make_student(), out=folder / "bare")
    return folder


class Failing(nn.Module):
    """After an epoch of six steps its logits are no numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.steps = make_student(), 0

    def forward(self, images_BCHW: Tensor) -> Tensor:
        self.steps += self.training
        logits_BC: Tensor = self.layers(images_BCHW)
        return logits_BC if self.steps <= 6 else logits_BC * torch.nan


def stop_at_8(progress: TrainProgress) -> None:
    """A Ctrl-C after so many steps."""
    if progress.step == 8:
        raise KeyboardInterrupt
