import time

import pytest

from softlab.remote import attempts as module
from softlab.remote.attempts import attempts


def test_attempts_end_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.3)
    start = time.monotonic()

    turns = sum(1 for _ in attempts())

    assert 2 <= turns <= 10
    assert 0.3 <= time.monotonic() - start < 3


def test_there_is_one_attempt_however_short_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GIVE_UP_S", 0.0)

    assert sum(1 for _ in attempts()) == 1
