"""A dump that is killed loses time and nothing else, whatever the moment."""

import itertools
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from softlab.errors import SoftlabError
from softlab.manifest import MANIFEST_NAME
from softlab.store.folder import LOCK_NAME, PLAN_NAME, count_finished_shards
from softlab.store.format import FormatName
from softlab.store.verify import verify_store
from tests.forks import FORKS, run_in_fork
from tests.kills import before_change, kill_this_process
from tests.store.building import contents
from tests.teacher.dumping import Pictures, dump, make_options

pytestmark = pytest.mark.process

BOTH_FORMATS = pytest.mark.parametrize("format", ["zarr", pytest.param("parquet", marks=pytest.mark.slow)])

Undisturbed = Callable[[int, FormatName], dict[str, bytes]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Gives every byte of a store of so many pictures that nothing happened to."""
    stores: dict[tuple[int, FormatName], dict[str, bytes]] = {}

    def dump_once(count: int, format: FormatName) -> dict[str, bytes]:
        if (count, format) not in stores:
            out = tmp_path_factory.mktemp("undisturbed") / "store"
            dump_pictures(out, count, format)
            stores[count, format] = contents(out)
        return stores[count, format]

    return dump_once


def dump_pictures(out: Path, count: int, format: FormatName) -> None:
    """Shards of 16 pictures."""
    torch.set_num_threads(1)
    dump(out, make_options(format=format), source=Pictures(count=count))


def dump_and_die(out: Path, count: int, format: FormatName, number: int) -> None:
    before_change(out, number, kill_this_process)
    dump_pictures(out, count, format)


def try_to_dump(out: Path, count: int, format: FormatName, delay_s: float = 0) -> str:
    """`finished`, or the class of the refusal."""
    time.sleep(delay_s)
    try:
        dump_pictures(out, count, format)
    except SoftlabError as error:
        return type(error).__name__
    return "finished"


def try_to_dump_with_a_pause(
    out: Path, count: int, format: FormatName, number: int, is_paused: Event, may_go_on: Event, answer: Connection
) -> None:
    """A dump that is held up before one change to its files; the end is a pause as well."""

    def pause() -> None:
        is_paused.set()
        assert may_go_on.wait(60)

    before_change(out, number, pause)
    answer.send(try_to_dump(out, count, format))
    is_paused.set()


@pytest.mark.parametrize("format", [pytest.param("zarr", marks=pytest.mark.slow), "parquet"])  # zarr has more files
def test_a_kill_before_any_change_to_its_files_costs_a_dump_nothing(
    tmp_path: Path, undisturbed: Undisturbed, format: FormatName
) -> None:
    """Every state in which a killed dump can leave its folder: all that it does, cut short one step later each time."""
    states = set()

    for number in itertools.count(1):
        out = tmp_path / str(number)
        code = run_in_fork(dump_and_die, out, 20, format, number)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        found = contents(out)
        states.add((count_finished_shards(out), PLAN_NAME in found, LOCK_NAME in found, MANIFEST_NAME in found))
        dump_pictures(out, 20, format)
        assert contents(out) == undisturbed(20, format), f"killed before change {number}"

    # Finished shards, and whether there was a plan, a lock and a manifest.
    assert states >= {
        (0, False, False, False),
        (0, False, True, False),
        (0, True, True, False),
        (1, True, True, False),
        (2, True, True, False),
        (2, True, True, True),
        (0, False, False, True),
    }


@BOTH_FORMATS
def test_kills_at_random_moments_cost_a_dump_nothing(
    tmp_path: Path, undisturbed: Undisturbed, format: FormatName
) -> None:
    """Twelve kills; each dump goes on where the one before was killed, and is killed a few shards later."""
    chance, outs, kills = random.Random(0), [tmp_path / "0"], 0

    while kills < 12:
        out = outs[-1]
        wanted_shards = count_finished_shards(out) + chance.randint(0, 3)
        process = FORKS.Process(target=dump_pictures, args=(out, 160, format))
        process.start()
        while process.is_alive() and count_finished_shards(out) < wanted_shards:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.join()
        if process.exitcode == 0:
            outs.append(tmp_path / str(len(outs)))
        else:
            kills += 1
    dump_pictures(outs[-1], 160, format)

    for out in outs:
        assert contents(out) == undisturbed(160, format)


def test_of_two_dumps_into_one_folder_one_is_refused_and_the_store_is_whole(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    chance, answers = random.Random(0), []

    with ProcessPoolExecutor(2, mp_context=FORKS) as processes:
        for number in range(20):
            out = tmp_path / str(number)
            delays = [0.0, chance.uniform(0, 0.1)]
            both = [processes.submit(try_to_dump, out, 50, "zarr", delay_s) for delay_s in delays]
            answers += [each.result() for each in both]
            assert contents(out) == undisturbed(50, "zarr")

    assert set(answers) <= {"finished", "StoreBusy", "StoreExists"}


@pytest.mark.slow
def test_whenever_a_second_dump_comes_the_store_is_whole(tmp_path: Path, undisturbed: Undisturbed) -> None:
    """One dump is held up before each of its changes to files in turn, and another tries to do all of it meanwhile."""
    pairs = []

    for number in itertools.count(1):
        out = tmp_path / str(number)
        is_paused, may_go_on = FORKS.Event(), FORKS.Event()
        receiver, sender = FORKS.Pipe(duplex=False)
        process = FORKS.Process(
            target=try_to_dump_with_a_pause, args=(out, 20, "parquet", number, is_paused, may_go_on, sender)
        )
        process.start()
        assert is_paused.wait(60)
        if receiver.poll():
            break
        second = try_to_dump(out, 20, "parquet")
        may_go_on.set()
        pairs.append((receiver.recv(), second))
        process.join()
        assert contents(out) == undisturbed(20, "parquet"), f"held up before change {number}: {pairs[-1]}"
        assert verify_store(out).is_intact

    assert set(pairs) == {
        ("StoreExists", "finished"),  # the first had found nothing there, and then waited too long
        ("finished", "StoreBusy"),
        ("finished", "finished"),  # the second came when the first had only to tidy up
    }
