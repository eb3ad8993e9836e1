"""`dump-teacher --devices N`: the command starts itself again in several processes."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from softlab.cli.launch import recipe_arguments
from softlab.cli.main import main
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.recipes.building import load_recipe
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.students import TeacherModel
from softlab.sources.options import SourceOptions
from softlab.store.folder import count_finished_shards, is_unfinished
from softlab.teacher.options import DumpOptions
from tests.cli.program import ROOT, TEACHER, TRAIN
from tests.store.building import contents

DUMP = ("dump-teacher", *TEACHER, *TRAIN, "--set", "source.limit=640", "--device", "cpu")
SMALL = ("--k", "4", "--set", "dump.shard_rows=16", "--batch-size", "16")
"""40 shards."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a command and the processes that it started printed."""

    code: object
    out: str
    err: str


@pytest.fixture
def launch(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Runs the program in this process, which starts others; two share the cores, so that each has one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(ROOT)

    def run(*arguments: object) -> Ended:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ended(code=stopped.value.code or 0, out=out, err=err)

    return run


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every byte of the store that one process writes."""
    out = tmp_path_factory.mktemp("alone") / "store"
    with pytest.raises(SystemExit) as stopped:
        main([*DUMP, *SMALL, "--out", str(out)])
    assert not stopped.value.code
    return contents(out)


def children() -> list[int]:
    """Processes that this one has started, and whose command is ours."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if parent == os.getpid() and b"dump-teacher" in command:
            found.append(int(folder.name))
    return sorted(found)


@contextmanager
def when_begun(out: Path, act: Callable[[], object]) -> Iterator[None]:
    """Does something once a store has its first finished shards, unless what is done here ends before that."""
    is_over = threading.Event()

    def watch() -> None:
        while count_finished_shards(out) < 2:
            if is_over.wait(0.005):
                return
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.slow
def test_one_that_is_killed_is_told_and_the_other_is_ended_and_two_go_on_to_one_table(
    tmp_path: Path, launch: Callable[..., Ended], alone: dict[str, bytes]
) -> None:
    store = tmp_path / "store"
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    with when_begun(store, lambda: os.kill(children()[-1], signal.SIGKILL)):
        killed = launch(*DUMP, *SMALL, "--out", store, "--devices", "2")
    left, unfinished = children(), is_unfinished(store)
    resumed = launch(*DUMP, *SMALL, "--out", store, "--devices", "2")

    assert (killed.code, killed.out, left, unfinished) == (1, "", [], True)
    assert killed.err == (
        "error: process 2 of 2 was killed by SIGKILL. Look whether the machine ran out of memory; the same command "
        "goes on where it stopped.\n"
    )
    assert (resumed.code, resumed.err) == (0, "")
    assert resumed.out.count("rows/s") == 1
    assert contents(store) == alone
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.mark.slow
def test_ctrl_c_reaches_all_and_is_told_once(tmp_path: Path, launch: Callable[..., Ended]) -> None:
    store = tmp_path / "store"

    with when_begun(store, lambda: os.kill(os.getpid(), signal.SIGINT)):
        stopped = launch(*DUMP, *SMALL, "--out", store, "--devices", "2")

    assert (stopped.code, stopped.out, children(), is_unfinished(store)) == (130, "", [], True)
    assert stopped.err.startswith(f"{store}: stopped with ")
    assert stopped.err.endswith(" of 40 shards finished. Run the same command again to go on.\n")
    assert stopped.err.count("\n") == 1


@pytest.mark.slow
def test_an_error_is_told_once_and_without_a_traceback(tmp_path: Path, launch: Callable[..., Ended]) -> None:
    refused = launch(*DUMP, "--k", "11", "--out", tmp_path / "store", "--devices", "2")

    assert (refused.code, refused.out) == (1, "")
    assert refused.err == "error: k = 11: the teacher has 10 classes. Choose `dump.k` (--k) from 1 to 10.\n"
    assert not (tmp_path / "store").exists()


def test_a_recipe_is_the_same_when_it_has_gone_through_the_arguments() -> None:
    recipe = DumpRecipe(
        out=Path('a "folder" of\tmine'),
        teacher=TeacherModel(model="m:f", arguments={"wide": True, "drop.path": 1e-05, "shape": [1, 2], "name": "ü\\"}),
        source=SourceOptions(path="data"),
        augment=ViewRecipe(transforms=("RandomCrop(28, padding=2)",), mixup=0.2),
        dump=DumpOptions(temperature=(1.0, 2.5), views="+2", feature={"pool": "layer4:mean"}, k=3),
    )

    arguments = recipe_arguments(recipe)

    assert set(arguments[::2]) == {"--set"}
    assert load_recipe(DumpRecipe, assignments=arguments[1::2]) == recipe
