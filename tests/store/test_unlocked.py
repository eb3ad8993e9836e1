"""Where nothing is locked: another process does all of its work between any two requests of this one."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

import pytest

from softlab.errors import StoreExists
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import ObjectInfo, Remote, Tagged
from softlab.store.access import finishing, joining, settle_plan, writing
from softlab.store.folder import find_finished
from tests.store.building import contents, make_arrays, make_plan, make_samples, write_shard, write_store

PLAN = make_plan(format="parquet", num_samples=7, shard_rows=4, num_views=1, features={})


class Between(FolderBackend):
    """Has something done before its so-manieth request, and perhaps more before later ones."""

    def __init__(self, root: Path, acts: Mapping[int, Callable[[], object]]) -> None:
        super().__init__(root)
        self.left, self._acts, self._number, self._turn = max(acts), acts, 0, Lock()

    def _count(self) -> None:
        """Of requests that are made at once each waits for what is done before another one."""
        with self._turn:
            self.left -= 1
            self._number += 1
            self._acts.get(self._number, lambda: None)()

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        self._count()
        return super().read(path, max_bytes=max_bytes)

    def size(self, path: str) -> int | None:
        self._count()
        return super().size(path)

    def write(self, path: str, data: bytes) -> None:
        self._count()
        super().write(path, data)

    def create(self, path: str, data: bytes) -> bool:
        self._count()
        return super().create(path, data)

    def list_objects(self, folder: str) -> Iterator[ObjectInfo]:
        self._count()
        return super().list_objects(folder)

    def delete(self, paths: list[str]) -> None:
        self._count()
        super().delete(paths)


def place(root: Path) -> Remote:
    return Remote(str(root), FolderBackend(root))


def settle(where: Remote) -> None:
    settle_plan(where, PLAN, expected=lambda: make_samples(PLAN))


def write_all(where: Remote) -> None:
    """As any worker does."""
    with joining(where, PLAN) as writer:
        for shard in writer.own_shards:
            write_shard(writer, shard, make_arrays(PLAN))


def finish(where: Remote) -> None:
    with finishing(where) as writer:
        if writer is not None:
            writer.finish()


def dump(where: Remote) -> None:
    """All of it, as the command does."""
    with writing(where, PLAN, expected=lambda: make_samples(PLAN)) as writer:
        for shard in writer.pending:
            write_shard(writer, shard, make_arrays(PLAN))
        writer.finish(make_samples(PLAN))


def begin(where: Remote) -> None:
    """A store without shards."""
    settle(where)


def begin_all(where: Remote) -> None:
    """A store with all shards."""
    settle(where)
    write_all(where)


@pytest.mark.parametrize(
    ("start", "work", "other"),
    [
        pytest.param(begin_all, finish, finish, id="two finish"),
        pytest.param(begin_all, finish, dump, id="one finishes and one dumps"),
        pytest.param(begin, write_all, dump, id="a worker is late"),
        pytest.param(lambda _: None, dump, dump, id="two dump"),
        pytest.param(lambda _: None, settle, dump, id="one settles and one dumps"),
    ],
)
def test_the_store_is_that_of_one(
    tmp_path: Path,
    start: Callable[[Remote], object],
    work: Callable[[Remote], object],
    other: Callable[[Remote], object],
) -> None:
    write_store(tmp_path / "alone", PLAN)
    expected, number, is_over = contents(tmp_path / "alone"), 0, False

    while not is_over:
        number += 1
        root = tmp_path / str(number)
        start(place(root))
        between = Between(root, {number: lambda root=root: other(place(root))})  # type: ignore[misc]
        with suppress(StoreExists):  # finished between two looks: the same command again finds it so
            work(Remote(str(root), between))
        is_over = between.left > 0
        with suppress(StoreExists):
            other(place(root))
        find_finished(place(root), PLAN)  # tidies up
        assert contents(root) == expected, number
        shutil.rmtree(root)

    assert number > 10


@pytest.mark.parametrize("work", [write_all, dump])
def test_the_store_is_that_of_one_where_another_one_commits_and_then_finishes(
    tmp_path: Path, work: Callable[[Remote], object]
) -> None:
    """Both between requests of this one: the record that was in its way is gone when it looks at it."""
    write_store(tmp_path / "alone", PLAN)
    expected, first, is_over = contents(tmp_path / "alone"), 0, False

    while not is_over:
        first += 1
        for second in range(first + 1, first + 4):
            root = tmp_path / f"{first}-{second}"
            begin(place(root))
            acts = {first: write_all, second: finish}
            bound = {number: lambda act=act, root=root: act(place(root)) for number, act in acts.items()}
            between = Between(root, bound)
            with suppress(StoreExists):
                work(Remote(str(root), between))
            is_over = between.left > 0
            finish(place(root))
            find_finished(place(root), PLAN)  # tidies up
            assert contents(root) == expected, (first, second)
            shutil.rmtree(root)

    assert first > 10
