import pytest

from softlab.ranks import (
    is_first_rank,
    is_first_to_fail,
    is_launched,
    local_rank,
    num_local_ranks,
    num_ranks,
    rank,
    srun_task,
)

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_USE_AGENT_STORE")
SRUN = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}


@pytest.fixture(autouse=True)
def _not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *SRUN, "SLURM_STEP_NUM_TASKS"):
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


@pytest.mark.parametrize(
    ("variables", "task", "local"),
    [
        (SRUN, (3, 4), 1),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "8"}, (3, 8), 1),
        (SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None, 0),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, None, 0),
        (SRUN | {"SLURM_STEP_ID": ""}, None, 0),
        (SRUN | {"SLURM_STEP_ID": "4294967290"}, None, 0),
        (SRUN | {"RANK": "1", "LOCAL_RANK": "2", "WORLD_SIZE": "8"}, None, 2),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, None, 0),
    ],
    ids=["task", "of a step", "alone", "alone in a step", "shell", "interactive step", "torchrun", "array"],
)
def test_a_task_of_srun_knows_its_number_unless_it_is_alone_or_torchruns(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], task: tuple[int, int] | None, local: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert (srun_task(), local_rank()) == (task, local)
