"""A folder and an object store answer alike to whoever writes a store there."""

import random
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlab.errors import InvalidOption, StoreBusy
from softlab.remote.folder import FolderBackend
from softlab.remote.patient import PatientBackend
from softlab.remote.remote import Remote
from softlab.store.files import records_of
from softlab.store.place import FolderFiles, RemoteFiles, StoreFiles, files_at, place_of

PATHS = ("commits/plan.json", "commits/view-00000-part-00000.json", "outputs/a/c/0", "outputs/a/c/1", "card.md")
DATA = (b"", b"one", b"other", b"much longer than one")
Step = tuple[str, str, bytes]
STEPS = st.one_of(
    st.tuples(st.sampled_from(["create", "write", "add", "begin"]), st.sampled_from(PATHS), st.sampled_from(DATA)),
    st.tuples(st.sampled_from(["remove", "read", "size", "has"]), st.sampled_from(PATHS), st.just(b"")),
)


def answer(files: StoreFiles, step: Step) -> object:
    act, path, data = step
    if act == "create":
        before = files.read(path)
        made = files.create(path, data)
        return made or before == data  # by bytes: who made what is there already, an object store doesn't tell
    if act == "begin":
        return files.has(path) or files.begin({"samples": data + b"samples", path: data})
    if act in ("read", "size", "has"):
        return getattr(files, act)(path)
    if act == "write":
        files.write({path: data, f"{path}.hashes": data})
    elif act == "add":
        files.add({path: data, f"{path}.hashes": data}, check=lambda: None)
    else:
        files.remove([path, f"{path}.hashes"])
    return None


def state(files: StoreFiles) -> dict[str, bytes | None]:
    size = files.sizes()
    found = {path: files.read(path) for path in files.paths()}
    assert {path: size(path) for path in found} == {path: len(data or b"") for path, data in found.items()}
    assert files.paths("commits") == [path for path in found if path.startswith("commits/")]
    return found


def check_alike(files: StoreFiles, others: StoreFiles, steps: list[Step]) -> None:
    for step in steps:
        assert answer(files, step) == answer(others, step), step
    assert state(files) == state(others)
    assert dict(files.each(files.size, PATHS)) == dict(others.each(others.size, PATHS))


@given(steps=st.lists(STEPS, max_size=12))
def test_both_answer_alike_whatever_is_asked(tmp_path_factory: pytest.TempPathFactory, steps: list[Step]) -> None:
    folder, objects = tmp_path_factory.mktemp("folder"), tmp_path_factory.mktemp("objects")

    check_alike(FolderFiles(folder), RemoteFiles(Remote(str(objects), FolderBackend(objects))), steps)


@pytest.mark.process
def test_so_does_a_server(tmp_path: Path, bucket: str) -> None:
    chance = random.Random(0)
    acts = ("create", "write", "add", "begin", "remove", "read", "size", "has")
    steps = [(chance.choice(acts), chance.choice(PATHS), chance.choice(DATA)) for _ in range(60)]

    check_alike(FolderFiles(tmp_path), files_at(place_of(f"{bucket}/pets")), steps)


@pytest.fixture(params=["folder", "objects"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> StoreFiles:
    return FolderFiles(tmp_path) if request.param == "folder" else RemoteFiles(Remote("r", FolderBackend(tmp_path)))


def test_a_large_file_is_written_by_and_by_and_recorded(files: StoreFiles) -> None:
    files.write({"a": b"before"})

    record = files.fill("a", lambda file: file.writelines([b"one", b" and ", b"two"]))

    assert (record,) == records_of({"a": b"one and two"})
    assert state(files) == {"a": b"one and two"}


def test_what_fails_while_a_file_is_written_leaves_what_was_there(files: StoreFiles) -> None:
    files.write({"a": b"before"})

    def fail(file: BinaryIO) -> None:
        file.write(b"one")
        raise StoreBusy("another process is at it")

    with pytest.raises(StoreBusy, match="another process is at it"):
        files.fill("a", fail)

    assert state(files) == {"a": b"before"}


def test_a_file_is_created_once(files: StoreFiles) -> None:
    assert files.create("commits/a.json", b"first")
    assert not files.create("commits/a.json", b"second")
    assert files.read("commits/a.json") == b"first"


def test_of_two_plans_on_an_object_store_the_first_one_stays_with_its_samples(tmp_path: Path) -> None:
    files = RemoteFiles(Remote("objects", FolderBackend(tmp_path)))

    assert files.begin({"commits/samples.parquet": b"of first", "commits/plan.json": b"first"})
    assert not files.begin({"commits/samples.parquet": b"of second", "commits/plan.json": b"second"})
    assert state(files) == {"commits/plan.json": b"first", "commits/samples.parquet": b"of first"}


def test_left_over_bytes_on_an_object_store_are_replaced_unless_the_check_refuses(tmp_path: Path) -> None:
    files = RemoteFiles(Remote("objects", FolderBackend(tmp_path)))
    files.write({"a": b"same", "b": b"left over"})

    def refuse() -> None:
        raise StoreBusy("written by another process")

    files.add({"a": b"same"}, check=refuse)
    with pytest.raises(StoreBusy):
        files.add({"b": b"new"}, check=refuse)
    assert state(files) == {"a": b"same", "b": b"left over"}
    files.add({"b": b"new"}, check=lambda: None)
    assert state(files) == {"a": b"same", "b": b"new"}


def test_a_server_that_replaces_what_is_to_be_created_once_is_refused(tmp_path: Path) -> None:
    class Careless(FolderBackend):
        def create(self, path: str, data: bytes) -> bool:
            self.write(path, data)
            return True

    files = RemoteFiles(Remote("objects", Careless(tmp_path)))

    with pytest.raises(InvalidOption, match="Dump into a folder and `softlab push` it"):
        files.begin({"commits/plan.json": b"first"})
    assert state(files) == {}


@pytest.mark.parametrize("out", ["s3://bucket/runs/a.zarr", Path("s3://bucket/runs/a.zarr"), "s3:/bucket/runs/a.zarr"])
def test_an_address_may_have_lost_a_slash(out: str | Path) -> None:
    place = place_of(out)

    assert isinstance(place, Remote)
    assert isinstance(place.backend, PatientBackend)
    assert str(place) == "s3://bucket/runs/a.zarr"


def test_a_folder_is_a_folder_also_if_it_is_named_like_an_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)

    assert place_of("s3:/bucket") == Path("s3:/bucket")
    assert place_of("runs/a@1.zarr") == Path("runs/a@1.zarr")


@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("https://example.org/a", "only read. Write the store into a folder or at an s3://"),
        ("hf://datasets/a/b", "only read"),
        ("s3://bucket/pets@1", "made by `softlab push`. Choose an address without @1"),
        ("S3://bucket/pets", "not a kind of address"),
    ],
)
def test_where_nothing_can_be_written_is_refused(out: str, told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        place_of(out)
