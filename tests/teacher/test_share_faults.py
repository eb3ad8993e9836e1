"""Processes that share a dump and are killed, held up, out of room or too late: the store is that of one process."""

import fcntl
import itertools
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import OtherNumerics, StoreWriteFailed
from softlab.store.dump_state import dump_state
from softlab.store.folder import count_finished_shards
from softlab.store.reader import open_store
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.dump_share import dump_share, finish_if_complete
from softlab.teacher.job import DumpJob, finalize
from softlab.teacher.planning import as_teacher, plan_dump
from softlab.teacher.shares import Share
from tests.forks import FORKS, run_in_fork
from tests.kills import before_change, kill_this_process
from tests.ranks import started, wait_for_end
from tests.store.building import contents
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher


def share(out: Path, text: str, count: int = 50, on_progress: Callable[[DumpProgress], None] | None = None) -> DumpJob:
    """Of shards of 16 pictures."""
    torch.set_num_threads(1)
    source, options = Pictures(count=count), make_options()
    return dump_share(make_teacher(), source, out, Share.parse(text), options, on_progress=on_progress)


def share_all(out: Path, texts: list[str], count: int = 50) -> None:
    for text in texts:
        share(out, text, count)


# Killed.


def do_all_and_die(out: Path, count: int, number: int) -> None:
    before_change(out, number, kill_this_process)
    finish_if_complete(share(out, "0/1", count))


@pytest.mark.process
@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_before_any_change_to_its_files_costs_a_worker_nothing(tmp_path: Path, step: int) -> None:
    """From the first file to the last one that finishing the store removes."""
    dump(tmp_path / "alone", source=Pictures(count=20))
    expected, codes = contents(tmp_path / "alone"), []

    for number in itertools.count(1, step):
        out = tmp_path / str(number)
        codes.append(run_in_fork(do_all_and_die, out, 20, number))
        job = share(out, "1/2", 20)
        share(out, "0/2", 20)
        finish_if_complete(job)
        assert contents(out) == expected, f"killed before change {number}"
        if codes[-1] == 0:
            break

    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) > 30 // step


@pytest.mark.process
def test_all_workers_are_killed_at_once_and_others_go_on(tmp_path: Path) -> None:
    dump(tmp_path / "alone", source=Pictures(count=160))
    out, chance = tmp_path / "store", random.Random(0)

    while not out.exists() or count_finished_shards(out) < 9:
        wanted = count_finished_shards(out) + 2
        processes = [FORKS.Process(target=share, args=(out, f"{index}/2", 160)) for index in range(2)]
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes) and count_finished_shards(out) < wanted:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
    share(out, "0-9", 160)
    finalize(out)

    assert contents(out) == contents(tmp_path / "alone")


# All at once.


@pytest.mark.process
def test_one_process_four_shares_and_two_ranks_make_one_digest(tmp_path: Path) -> None:
    digest = dump(tmp_path / "alone").digest
    orders = [["3/4", "1"], ["0", "2/4"], ["2-3", "0/4"], ["1/4", "0,3"]]

    processes = [FORKS.Process(target=share_all, args=(tmp_path / "shares", order)) for order in orders]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    finalize(tmp_path / "shares")
    with started(2, dump_alone, tmp_path / "ranks") as ranks:
        assert wait_for_end(ranks) == [0, 0]

    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert [open_store(tmp_path / name).digest for name in ("shares", "ranks")] == [digest, digest]


def dump_alone(out: Path) -> None:
    dump(out)


# Too late.


def straggle(out: Path, is_there: Event, may_go_on: Event, *, locks: bool) -> None:
    """A worker that is held up when it has computed its first shard, and not yet committed it."""
    if not locks:
        fcntl.flock = lambda *_: None

    def on_progress(progress: DumpProgress) -> None:
        if progress.rows == 16:
            is_there.set()
            assert may_go_on.wait(60)

    share(out, "0-1", on_progress=on_progress)


@pytest.mark.process
@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_a_straggler_that_commits_what_another_did_meanwhile_does_no_harm(tmp_path: Path, locks: bool) -> None:
    """Without locks the store may even be finished meanwhile: then nothing of it is touched."""
    dump(tmp_path / "alone")
    out, is_there, may_go_on = tmp_path / "store", FORKS.Event(), FORKS.Event()
    straggler = FORKS.Process(target=straggle, args=(out, is_there, may_go_on), kwargs={"locks": locks})

    straggler.start()
    assert is_there.wait(60)
    share(out, "0-3")
    if not locks:
        finalize(out)
    may_go_on.set()
    straggler.join()
    finalize(out)

    assert straggler.exitcode == 0
    assert contents(out) == contents(tmp_path / "alone")


class Rounding(nn.Module):
    """The small teacher on another device."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = make_teacher()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        logits_BC: Tensor = self.teacher(images_BCHW) * 1.01
        return logits_BC


def test_a_straggler_with_other_bits_is_told_and_the_first_ones_files_stay(tmp_path: Path) -> None:
    job = plan_dump(make_teacher(), Pictures(), tmp_path, make_options())
    elsewhere, before = replace(job, teacher=as_teacher(Rounding())), dict[str, bytes]()

    def on_progress(progress: DumpProgress) -> None:
        if progress.rows == 16:
            job.run_shard(0)
            before.update(contents(tmp_path))

    with pytest.warns(OtherNumerics, match=r"shard view-00000-part-00000 was written by another process meanwhile"):
        elsewhere.run_shards([0], on_progress=on_progress)

    assert {name: data for name, data in contents(tmp_path).items() if "workers" not in name} == {
        name: data for name, data in before.items() if "workers" not in name
    }


# Without room.


def test_a_worker_without_room_goes_on_when_there_is_some_and_nothing_is_set_aside(
    tmp_path: Path, resize_disk: Callable[[int], Path]
) -> None:
    dump(tmp_path / "alone")
    out = resize_disk(44) / "store"

    for _ in range(4):
        with pytest.raises(StoreWriteFailed, match="No space left on device"):
            share(out, "0-3")
    state = dump_state(out)
    resize_disk(1024)
    share(out, "0-3")
    finalize(out)

    assert 0 < state.shards < 4
    assert state.failed == ()
    assert contents(out) == contents(tmp_path / "alone")
