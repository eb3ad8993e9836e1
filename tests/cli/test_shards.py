"""`dump-teacher --shards`, `finalize`: a dump that commands share that know nothing of each other."""

import json
import os
from pathlib import Path

import pytest
import torch

from softlab.cli.main import main
from softlab.store.dump_state import dump_state
from tests.cli.program import SMALL, TEACHER, TRAIN, Softlab, assert_refused, open_uncached
from tests.forks import FORKS, run_in_fork

DUMP = ("dump-teacher", *TEACHER, *TRAIN, *SMALL, "--device", "cpu")


def test_four_shares_and_finalize_make_the_store_of_one_command(tmp_path: Path, stores: Path, softlab: Softlab) -> None:
    out = tmp_path / "store"

    first = softlab(*DUMP, "--out", out, "--shards", "2/4")
    early = softlab("finalize", out)
    rest = [softlab(*DUMP, "--out", out, "--shards", text) for text in ("0", "3/4", "0-1")]
    finished = softlab("finalize", out)
    again = softlab("finalize", out)
    late = softlab(*DUMP, "--out", out, "--shards", "2/4")

    assert first.facts() == {
        "store": str(out),
        "shards": "1 of 4",
        "rows": "64 of 200",
        "bytes": first.facts()["bytes"],
        "missing": "0-1,3",
        "next": f"softlab finalize {out}, once all shards are there",
    }
    assert_refused(early, "3 of 4 shards are missing: 0-1,3. Run those", "then finalize again")
    assert rest[-1].facts()["next"] == f"softlab finalize {out}"
    assert [each.code for each in (first, *rest, finished, again, late)] == [0] * 7
    assert finished.out == again.out
    assert finished.facts()["digest"] == open_uncached(stores / "train.zarr").digest
    assert late.facts()["next"] == "nothing, the store is finished"


@pytest.mark.parametrize(
    ("shards", "told"),
    [("4/4", "I of I/N counts from 0"), ("9", "there is no shard 9, they are 0 to 3"), ("x", "Write `shards = 0/8`")],
)
def test_what_is_no_share_is_refused(tmp_path: Path, softlab: Softlab, shards: str, told: str) -> None:
    assert_refused(softlab(*DUMP, "--out", tmp_path / "store", "--shards", shards), told, "--shards")


def test_where_nobody_began_there_is_nothing_to_finalize(tmp_path: Path, softlab: Softlab) -> None:
    assert_refused(softlab("finalize", tmp_path / "nothing"), "nothing")


# progress.


def test_progress_tells_what_is_there_and_who_was_at_work(tmp_path: Path, softlab: Softlab) -> None:
    out = tmp_path / "store"
    softlab(*DUMP, "--out", out, "--shards", "1-2")

    shown, told = softlab("progress", out), json.loads(softlab("progress", out, "--json").out)
    facts = shown.facts()

    assert (facts["shards"], facts["rows"], facts["missing"]) == ("2 of 4", "128 of 200", "0,3")
    assert f"process {os.getpid()}: no longer at work, 2 shards, last heard of" in shown.out
    assert (told["shards"], told["total_shards"], told["missing"], told["is_finished"]) == (2, 4, "0,3", False)
    assert [(each["pid"], each["rows"]) for each in told["workers"]] == [(os.getpid(), 128)]
    assert told["out"] == str(out)


def test_progress_of_a_finished_store_and_of_none(stores: Path, tmp_path: Path, softlab: Softlab) -> None:
    finished = softlab("progress", stores / "train.zarr")

    assert finished.facts()["next"] == "nothing, the store is finished"
    assert_refused(softlab("progress", tmp_path / "nothing"), "nothing")


# Tasks of srun.


def run_task(number: int, count: int, arguments: tuple[object, ...]) -> None:
    """As srun starts one."""
    torch.set_num_threads(1)
    named = {"STEP_ID": 0, "NTASKS": count, "PROCID": number, "LOCALID": number}
    os.environ.update({f"SLURM_{name}": str(value) for name, value in named.items()})
    main([*map(str, arguments)])


@pytest.mark.process
def test_tasks_of_srun_share_the_work_and_the_last_one_finishes_the_store(tmp_path: Path, stores: Path) -> None:
    arguments = (*DUMP, "--out", tmp_path / "store")
    processes = [FORKS.Process(target=run_task, args=(number, 3, arguments)) for number in range(3)]

    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert open_uncached(tmp_path / "store").digest == open_uncached(stores / "train.zarr").digest
    assert not (tmp_path / "store/commits").exists()


@pytest.mark.process
def test_a_task_that_comes_alone_leaves_the_rest_to_the_others(tmp_path: Path, stores: Path) -> None:
    arguments = (*DUMP, "--out", tmp_path / "store")

    assert run_in_fork(run_task, 1, 2, arguments) == 0
    assert dump_state(tmp_path / "store").missing == "0,2"
    assert run_in_fork(run_task, 0, 2, arguments) == 0
    assert open_uncached(tmp_path / "store").digest == open_uncached(stores / "train.zarr").digest
    assert run_in_fork(run_task, 1, 2, arguments) == 0, "of a store that is finished"


def test_a_task_of_srun_has_one_device(tmp_path: Path, softlab: Softlab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"STEP_ID": "0", "NTASKS": "2", "PROCID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)

    assert_refused(softlab(*DUMP, "--out", tmp_path / "store", "--devices", "2"), "a share is of one process")
