import pytest

from softlab.ranks import (
    is_first_rank,
    is_first_to_fail,
    is_launched,
    local_rank,
    num_local_ranks,
    num_ranks,
    rank,
)

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_USE_AGENT_STORE")


@pytest.fixture(autouse=True)
def _not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def test_a_process_that_nobody_launched_is_the_only_one() -> None:
    assert (is_launched(), is_first_rank(), is_first_to_fail()) == (False, True, True)
    assert (rank(), local_rank(), num_ranks(), num_local_ranks()) == (0, 0, 1, 1)


def test_torchruns_processes_know_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)

    assert (is_launched(), is_first_rank()) == (True, False)
    assert (rank(), local_rank(), num_ranks(), num_local_ranks()) == (5, 1, 8, 4)


def test_a_process_whose_torchrun_is_gone_tells_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", **here}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("softlab.ranks.TELLING_TIMEOUT_S", 0.1)

    assert is_first_to_fail()
