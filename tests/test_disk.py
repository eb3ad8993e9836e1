"""Of disk.py, what folders of objects need; what stores need is in store/test_files.py."""

import errno
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from softlab.disk import exclusive, is_temporary, list_files, read_whole, waiting_for, write_whole
from softlab.errors import StoreBusy, StoreError, StoreWriteFailed
from tests.forks import FORKS, run_in_fork


def count_up(lock: Path, counter: Path, times: int) -> None:
    """Read and write in two steps, which another process must not come between."""
    for _ in range(times):
        with waiting_for(lock):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_written_files_are_whole_under_their_names_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "new", {"a": b"one", "b/c": memoryview(b"two"), "empty": b""})

    assert list_files(tmp_path) == ["new/a", "new/b/c", "new/empty"]
    assert (tmp_path / "new" / "b" / "c").read_bytes() == b"two"


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """The file that was open stays what it was."""
    write_whole(tmp_path, {"a": b"old" * 1000})

    with (tmp_path / "a").open("rb") as reader:
        write_whole(tmp_path, {"a": b"new"})

        assert reader.read() == b"old" * 1000
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_folder_in_the_place_of_a_file_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()

    with pytest.raises(StoreWriteFailed, match=r"mend the cause, then run the same command again"):
        write_whole(tmp_path, {"a": b"data"})


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.EINTR])
def test_what_can_t_be_read_is_an_error_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)

    with pytest.raises(StoreError, match=rf"a: can't be read: {os.strerror(number)}\. Check its permissions"):
        read_whole(tmp_path / "a")


def test_what_may_have_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()

    for name in ("pipe", "device", "folder"):
        with pytest.raises(StoreError, match=f"{name}: is no plain file"):
            read_whole(tmp_path / name)


def test_what_is_not_there_is_told_from_what_can_t_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("a.0123456789ab.tmp", True), ("b/a.json.ffffffffffff.tmp", True), ("a.tmp", False), ("a", False)),
        *(("a.0123456789AB.tmp", False), ("a.0123456789ab.tmp\n", False), ("a.0123456789ab.tmp/b", False)),
    ],
)
def test_a_name_tells_whether_a_file_was_still_being_written(name: str, expected: bool) -> None:
    assert is_temporary(name) is expected


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: count_up(tmp_path / "lock", tmp_path / "counter", 20), range(8)))

    assert (tmp_path / "counter").read_text() == "160"


@pytest.mark.process
def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "counter").write_text("0")
    arguments = (tmp_path / "lock", tmp_path / "counter", 50)

    processes = [FORKS.Process(target=count_up, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "150"


def test_a_lock_is_waited_for_until_it_is_let_go_also_by_an_error(tmp_path: Path) -> None:
    waits, is_held = threading.Event(), threading.Event()

    def hold() -> None:
        with waiting_for(tmp_path / "lock"):
            is_held.set()
            waits.wait()
            raise KeyError

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        is_held.wait()
        with pytest.raises(StoreBusy, match=r"Wait until it ends"), exclusive(tmp_path / "lock"):
            pass
        waits.set()
        with waiting_for(tmp_path / "lock"):
            pass

    assert isinstance(holder.exception(), KeyError)


def hold_as_another_user(folder: Path) -> None:
    """Exit code 0 where it can. Who may not list the folders above may be in one."""
    os.chdir(folder)
    os.setuid(65534)
    with waiting_for(Path("lock")), pytest.raises(StoreBusy), exclusive(Path("lock")):
        pass


@pytest.mark.process
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_lock_that_one_user_made_is_held_by_another(tmp_path: Path, mode: int | None) -> None:
    tmp_path.chmod(0o755)
    with waiting_for(tmp_path / "lock"):
        pass
    if mode is not None:
        (tmp_path / "lock").chmod(mode)

    assert run_in_fork(hold_as_another_user, tmp_path) == 0


def test_a_lock_may_be_opened_by_all_whatever_files_are_made_with(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with waiting_for(tmp_path / "lock"):
            pass
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o666


def test_a_lock_in_a_folder_that_can_not_be_made_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with (
        pytest.raises(StoreWriteFailed, match=r"mend the cause, then run the same command again"),
        waiting_for(tmp_path / "file" / "lock"),
    ):
        pass


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(50):
        with waiting_for(tmp_path / "lock"):
            pass

    assert len(os.listdir("/proc/self/fd")) <= before
