"""Views are being added to a finished store: a kill at any moment loses time and nothing else, and never the store."""

import itertools
import random
import shutil
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from softlab.errors import SoftlabError
from softlab.store.folder import count_finished_shards, is_adding_views
from softlab.store.format import FormatName
from softlab.store.verify import verify_store
from tests.forks import FORKS, run_in_fork
from tests.kills import before_change, kill_this_process
from tests.store.building import contents
from tests.teacher.augmenting import dump_views, open_uncached, samples_of
from tests.teacher.dumping import Pictures, assert_same_labels

pytestmark = pytest.mark.process

Prepared = Callable[[int, FormatName], Path]


@pytest.fixture(scope="module")
def two_views(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Gives a finished store of two views of so many pictures, to be copied."""
    folder = tmp_path_factory.mktemp("two-views")

    def dump_once(count: int, format: FormatName) -> Path:
        out = folder / f"{count}-{format}"
        if not out.exists():
            dump_pictures(out, 2, count, format)
        return out

    return dump_once


def dump_pictures(out: Path, views: int | str, count: int, format: FormatName) -> None:
    """Shards of 16 pictures."""
    torch.set_num_threads(1)
    dump_views(out, views, source=Pictures(count=count), format=format)


def add_and_die(out: Path, views: int | str, count: int, format: FormatName, number: int) -> None:
    before_change(out, number, kill_this_process)
    dump_pictures(out, views, count, format)


def try_to_add(out: Path, count: int, format: FormatName) -> str:
    """`finished`, or the class of the refusal."""
    try:
        dump_pictures(out, "+1", count, format)
    except SoftlabError as error:
        return type(error).__name__
    return "finished"


def try_to_add_with_a_pause(
    out: Path, count: int, format: FormatName, number: int, is_paused: Event, may_go_on: Event, answer: Connection
) -> None:
    """Adding a view is held up before one change to files of the store; the end is a pause as well."""

    def pause() -> None:
        is_paused.set()
        assert may_go_on.wait(60)

    before_change(out, number, pause)
    answer.send(try_to_add(out, count, format))
    is_paused.set()


def added(parent: Path, out: Path, views: int | str, count: int, format: FormatName) -> dict[str, bytes]:
    """Every byte of a store that views were added to and nothing happened to."""
    shutil.copytree(parent, out)
    dump_pictures(out, views, count, format)
    return contents(out)


def assert_is_whole(out: Path, parent: Path) -> None:
    """Whatever is going on, the store has its first two views, and each file that its manifest names."""
    store, expected = open_uncached(out), open_uncached(parent)
    report = verify_store(out)
    assert report.is_intact, report
    assert store.num_views >= 2
    for view in range(2):
        numbers = samples_of(store)
        assert_same_labels(store.read(numbers, view=view), expected.read(numbers, view=view))


@pytest.mark.slow
@pytest.mark.parametrize("format", ["zarr", "parquet"])
@pytest.mark.parametrize("views", ["+1", 3])
def test_a_kill_before_any_change_to_its_files_costs_an_addition_nothing(
    tmp_path: Path, two_views: Prepared, format: FormatName, views: int | str
) -> None:
    """Every state in which adding a view can be cut short; the same command then adds that one and no more. Asked for
    as the number of all, it may be repeated for ever."""
    parent = two_views(20, format)
    expected = added(parent, tmp_path / "undisturbed", "+1", 20, format)
    states = set()

    for number in itertools.count(1):
        out = tmp_path / str(number)
        shutil.copytree(parent, out)
        code = run_in_fork(add_and_die, out, views, 20, format, number)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert_is_whole(out, parent)
        is_tidied = contents(out).keys() == expected.keys()
        states.add((open_uncached(out).num_views, is_adding_views(out), count_finished_shards(out)))
        if views == 3 or not is_tidied:  # else nothing is left to tell that it isn't asked for one more
            dump_pictures(out, views, 20, format)
        assert contents(out) == expected, f"killed before change {number}"

    # Views that readers see, whether some are being added, and their finished shards.
    assert states == {
        (2, False, 0),
        (2, True, 0),
        (2, True, 1),
        (2, True, 2),
        (3, False, 2),
        (3, False, 1),
        (3, False, 0),
    }


def test_kills_at_random_moments_cost_an_addition_nothing(tmp_path: Path, two_views: Prepared) -> None:
    """Ten kills; each command goes on where the one before was killed, and is killed a few shards later."""
    parent = two_views(80, "zarr")
    expected = added(parent, tmp_path / "undisturbed", "+2", 80, "zarr")
    chance, outs, kills = random.Random(0), [shutil.copytree(parent, tmp_path / "0")], 0

    while kills < 10:
        out = outs[-1]
        wanted_shards = count_finished_shards(out) + chance.randint(0, 2)
        process = FORKS.Process(target=dump_pictures, args=(out, "+2", 80, "zarr"))
        process.start()
        while process.is_alive() and count_finished_shards(out) < wanted_shards:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.03))
        process.kill()
        process.join()
        kills += process.exitcode != 0
        assert_is_whole(out, parent)
        if contents(out) == expected:
            outs.append(shutil.copytree(parent, tmp_path / str(len(outs))))
    dump_pictures(outs[-1], "+2", 80, "zarr")

    for out in outs:
        assert contents(out) == expected


@pytest.mark.slow
def test_whenever_a_second_process_adds_the_same_view_the_store_is_whole(tmp_path: Path, two_views: Prepared) -> None:
    """One is held up before each of its changes to files in turn, and another tries to do all of it meanwhile."""
    parent, pairs = two_views(20, "parquet"), []
    expected = added(parent, tmp_path / "undisturbed", "+1", 20, "parquet")

    for number in itertools.count(1):
        out = shutil.copytree(parent, tmp_path / str(number))
        is_paused, may_go_on = FORKS.Event(), FORKS.Event()
        receiver, sender = FORKS.Pipe(duplex=False)
        process = FORKS.Process(
            target=try_to_add_with_a_pause, args=(out, 20, "parquet", number, is_paused, may_go_on, sender)
        )
        process.start()
        assert is_paused.wait(60)
        if receiver.poll():
            break
        is_tidied = contents(out).keys() == expected.keys()
        second = "" if is_tidied else try_to_add(out, 20, "parquet")  # it would add one more by right
        may_go_on.set()
        pairs.append((receiver.recv(), second))
        process.join()
        assert_is_whole(out, parent)
        assert contents(out) == expected, f"held up before change {number}: {pairs[-1]}"

    assert set(pairs) - {("finished", "")} == {
        ("StoreExists", "finished"),  # the first had found two views, and then waited too long
        ("finished", "StoreBusy"),
        ("finished", "finished"),  # the second came when the first had only to tidy up
    }
