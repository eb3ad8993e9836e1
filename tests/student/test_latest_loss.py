import math
import time

import pytest
import torch

from softlab.student import latest_loss
from softlab.student.latest_loss import LatestLoss


def test_before_the_first_step_there_is_none() -> None:
    assert LatestLoss().value is None


def test_the_first_loss_is_followed_by_a_smoothed_one() -> None:
    loss = LatestLoss()

    values = []
    for each in (2.0, 1.0, 1.0):
        loss.add(torch.tensor(each))
        values.append(loss.value)

    assert values == pytest.approx([2.0, 1.9, 1.81])


def test_a_loss_that_is_no_number_shows() -> None:
    loss = LatestLoss()

    for each in (1.0, math.nan, 1.0):
        loss.add(torch.tensor(each))

    assert loss.value is not None
    assert math.isnan(loss.value)


@pytest.mark.gpu
def test_nothing_waits_for_a_gpu_and_the_loss_arrives_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latest_loss, "COPY_EVERY_S", 0.0)
    loss, seconds = LatestLoss(), []
    scalar = torch.tensor(2.0, device="cuda")
    loss.add(scalar)  # what is used for the first time is set up
    torch.cuda.synchronize()
    assert loss.value == 2.0

    torch.cuda._sleep(2_000_000_000)  # type: ignore[no-untyped-call]  # cycles: about a second
    for _ in range(100):
        start = time.perf_counter()
        loss.add(scalar - 1)
        assert loss.value == 2.0
        seconds.append(time.perf_counter() - start)
    torch.cuda.synchronize()

    assert sum(seconds) < 0.5
    assert loss.value == pytest.approx(1.9)
