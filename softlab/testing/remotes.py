"""What holds for every folder of objects, wherever it lies."""

import pickle
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from softlab.errors import InvalidOption, ObjectMissing
from softlab.remote.remote import Remote, TooLarge

ODD_NAMES = ("a b", "ü", "c+d&e=f", "~g!", "(h)[i]{j}", "k'l,m;n:o$p^q`r@s", "T", "t.", "-u", ".v", "x" * 200)

OBJECTS = {
    "plain": b"as bytes",
    "empty": b"",
    "large": bytes(range(256)) * 5000,
    "labels/view=00000/part-00000.parquet": b"first",
    "labels/view=00001/part-00000.parquet": b"second",
    "labels/ids/c/0/0": b"third",
    "labels-of-another": b"fourth",
    **{f"odd/{name}/{name}": name.encode() for name in ODD_NAMES},
}

BAD_PATHS = (
    *("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b"),
    *("a\\b", "a?b", "a#b", "a%2e", "a*", "a|b", 'a"b', "a<b", "a\0b", "a\nb"),
)


class ReadContract:
    """A subclass has a fixture `holding`: a folder with just these objects."""

    @pytest.fixture
    def holding(self) -> Callable[[Mapping[str, bytes]], Remote]:
        raise NotImplementedError

    @pytest.fixture
    def remote(self, holding: Callable[[Mapping[str, bytes]], Remote]) -> Remote:
        return holding(OBJECTS)

    def test_what_it_holds_is_read(self, remote: Remote) -> None:
        read = {path: remote.read(path, max_bytes=len(data)) for path, data in OBJECTS.items()}

        assert read == OBJECTS

    def test_sizes_are_told_without_reading(self, remote: Remote) -> None:
        assert {path: remote.size(path) for path in OBJECTS} == {path: len(data) for path, data in OBJECTS.items()}

    @pytest.mark.parametrize("path", ["nothing", "labels/nothing", "plain/below", "nothing/below/it"])
    def test_what_is_not_there_has_no_size_and_is_missing_when_read(self, remote: Remote, path: str) -> None:
        with pytest.raises(ObjectMissing, match=f"{path}: is missing"):
            remote.read(path, max_bytes=10)

        assert remote.size(path) is None

    def test_a_read_says_how_much_larger_an_object_is_than_expected(self, remote: Remote) -> None:
        with pytest.raises(TooLarge, match="large: has 1,280,000 bytes, expected at most 1,279,999") as caught:
            remote.read("large", max_bytes=1_279_999)

        assert caught.value.size == 1_280_000

    @pytest.mark.parametrize("path", BAD_PATHS)
    def test_paths_that_are_not_plain_names_below_it_are_refused(self, remote: Remote, path: str) -> None:
        for ask in (
            lambda: remote.read(path, max_bytes=1),
            lambda: remote.size(path),
            lambda: remote.write(path, b""),
            lambda: remote.create(path, b""),
            lambda: remote.replace(path, b"", tag="x"),
            lambda: remote.delete([path]),
            lambda: remote.copy(path, "a"),
            lambda: remote.copy("plain", path),
            lambda: remote.within(path),
        ):
            with pytest.raises(InvalidOption, match="is not a path of plain names"):
                ask()

    def test_a_folder_in_it_is_a_remote_too(self, remote: Remote) -> None:
        inner = remote.within("labels").within("ids/c")

        assert inner.read("0/0", max_bytes=5) == b"third"
        assert str(inner) == f"{remote}/labels/ids/c"

    def test_a_copy_in_another_process_reads_the_same(self, remote: Remote) -> None:
        remote.read("plain", max_bytes=8)

        copied = pickle.loads(pickle.dumps(remote.within("labels/ids")))

        assert copied.read("c/0/0", max_bytes=5) == b"third"
        assert str(copied) == f"{remote}/labels/ids"

    def test_many_threads_may_read_at_once(self, remote: Remote) -> None:
        remote = pickle.loads(pickle.dumps(remote))  # not connected yet
        start = threading.Barrier(16)

        def read(number: int) -> bytes:
            start.wait()
            return remote.read("large", max_bytes=1 << 21)

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(read, range(16)))

        assert found == [OBJECTS["large"]] * 16


class ListContract(ReadContract):
    """Of places that tell what they hold."""

    def test_it_lists_what_it_holds(self, remote: Remote) -> None:
        found = [(each.path, each.bytes) for each in remote.list_objects()]

        assert found == sorted((path, len(data)) for path, data in OBJECTS.items())

    def test_listing_a_folder_gives_no_folder_whose_name_only_starts_alike(self, remote: Remote) -> None:
        found = [each.path for each in remote.list_objects("labels")]

        assert found == sorted(path for path in OBJECTS if path.startswith("labels/"))

    def test_a_folder_in_it_lists_paths_below_itself(self, remote: Remote) -> None:
        inner = remote.within("labels")

        assert [each.path for each in inner.list_objects("ids")] == ["ids/c/0/0"]
        assert inner.list_folders() == ["ids", "view=00000", "view=00001"]

    def test_a_folder_is_no_object(self, remote: Remote) -> None:
        with pytest.raises(ObjectMissing, match="labels/ids: is missing"):
            remote.read("labels/ids", max_bytes=10)

        assert remote.size("labels/ids") is None

    def test_it_lists_the_folders_in_a_folder(self, remote: Remote) -> None:
        assert remote.list_folders() == ["labels", "odd"]
        assert remote.list_folders("odd") == sorted(ODD_NAMES)
        assert remote.list_folders("labels/ids") == ["c"]

    @pytest.mark.parametrize("folder", ["nothing", "nothing/below/it", "plain"])
    def test_a_folder_that_is_not_there_is_empty(self, remote: Remote, folder: str) -> None:
        assert remote.list_objects(folder) == []
        assert remote.list_folders(folder) == []

    def test_one_without_objects_is_empty(self, holding: Callable[[Mapping[str, bytes]], Remote]) -> None:
        remote = holding({})

        assert (remote.list_objects(), remote.list_folders(), remote.size("a")) == ([], [], None)


class WriteContract(ListContract):
    """Of places that are published at."""

    @pytest.fixture
    def empty(self, holding: Callable[[Mapping[str, bytes]], Remote]) -> Remote:
        return holding({})

    def test_a_written_object_takes_the_place_of_an_older_one(self, empty: Remote) -> None:
        empty.write("a/b", b"a long one")

        empty.write("a/b", b"short")

        assert empty.read("a/b", max_bytes=10) == b"short"
        assert [each.path for each in empty.list_objects()] == ["a/b"]

    def test_an_object_is_created_once(self, empty: Remote) -> None:
        assert empty.create("a/b", b"first")
        assert not empty.create("a/b", b"second")
        assert empty.read("a/b", max_bytes=10) == b"first"

    def test_of_many_threads_that_create_an_object_one_does(self, empty: Remote) -> None:
        start = threading.Barrier(16)

        def create(number: int) -> bool:
            start.wait()
            return empty.create("versions/1.json", b"writer %d" % number)

        with ThreadPoolExecutor(16) as pool:
            won = list(pool.map(create, range(16)))

        assert won.count(True) == 1
        assert empty.read("versions/1.json", max_bytes=20) == b"writer %d" % won.index(True)

    def test_an_object_is_replaced_only_if_it_is_the_one_that_was_read(self, empty: Remote) -> None:
        empty.write("tag", b"first")
        read = empty.read_tagged("tag", max_bytes=10)

        assert empty.replace("tag", b"second", tag=read.tag)
        assert not empty.replace("tag", b"third", tag=read.tag)
        assert empty.read("tag", max_bytes=10) == b"second"

    def test_what_was_deleted_meanwhile_is_not_replaced(self, empty: Remote) -> None:
        empty.write("tag", b"first")
        read = empty.read_tagged("tag", max_bytes=10)
        empty.delete(["tag"])

        assert not empty.replace("tag", b"second", tag=read.tag)
        assert empty.size("tag") is None

    def test_no_update_by_many_threads_is_lost(self, empty: Remote) -> None:
        empty.write("catalogue", b"")

        def append(item: str) -> None:
            while True:
                read = empty.read_tagged("catalogue", max_bytes=10_000)
                if empty.replace("catalogue", read.data + item.encode() + b"\n", tag=read.tag):
                    return

        def append_ten(writer: int) -> None:
            for number in range(10):
                append(f"{writer}-{number}")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(append_ten, range(8)))

        items = empty.read("catalogue", max_bytes=10_000).decode().split()
        assert sorted(items) == sorted(f"{writer}-{number}" for writer in range(8) for number in range(10))

    def test_deleted_objects_are_gone_and_others_stay(self, remote: Remote) -> None:
        gone = [path for path in OBJECTS if path.startswith(("labels/", "odd/"))]

        remote.delete([*gone, "nothing", "nothing/below/it"])

        assert [each.path for each in remote.list_objects()] == ["empty", "labels-of-another", "large", "plain"]

    def test_nothing_may_be_deleted(self, remote: Remote) -> None:
        remote.delete([])

        assert len(remote.list_objects()) == len(OBJECTS)

    def test_an_object_is_copied(self, remote: Remote) -> None:
        remote.copy("large", "labels/copy of it")

        assert remote.read("labels/copy of it", max_bytes=1 << 21) == OBJECTS["large"]
        assert remote.size("large") == 1_280_000

    def test_what_is_not_there_can_not_be_copied(self, remote: Remote) -> None:
        with pytest.raises(ObjectMissing, match="nothing: is missing"):
            remote.copy("nothing", "copy")

        assert remote.size("copy") is None


class ReadOnlyContract(ReadContract):
    """Of places that are published at with tools of their own."""

    def test_every_change_is_refused_with_another_way(self, remote: Remote) -> None:
        for change in (
            lambda: remote.write("new", b""),
            lambda: remote.create("new", b""),
            lambda: remote.replace("plain", b"", tag="x"),
            lambda: remote.delete(["plain"]),
            lambda: remote.copy("plain", "new"),
        ):
            with pytest.raises(InvalidOption, match=r"are only read.* (Publish into|Choose)"):
                change()

        assert remote.read("plain", max_bytes=8) == b"as bytes"
