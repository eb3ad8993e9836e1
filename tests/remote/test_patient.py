import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from softlab.errors import AccessDenied, ObjectMissing, RemoteFailed
from softlab.remote.folder import FolderBackend
from softlab.remote.patient import PatientBackend, patient
from softlab.remote.remote import Remote, Tagged


class Failing(FolderBackend):
    """Fails where it is told to, after the write has come through or before."""

    def __init__(self, root: Path, failures: Iterator[bool], *, is_late: bool = False) -> None:
        super().__init__(root)
        self._failures, self._is_late = failures, is_late

    def read(self, path: str, *, max_bytes: int) -> Tagged:
        self._fail()
        return super().read(path, max_bytes=max_bytes)

    def create(self, path: str, data: bytes) -> bool:
        if not self._is_late:
            self._fail()
        created = super().create(path, data)
        if self._is_late:
            self._fail()
        return created

    def _fail(self) -> None:
        if next(self._failures, False):
            raise RemoteFailed("the server is gone")


def test_a_server_that_has_answered_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"here")
    remote = patient(Remote("r", Failing(tmp_path, iter([False, True, True]))))

    assert remote.read("a", max_bytes=4) == b"here"
    assert remote.read("a", max_bytes=4) == b"here"


def test_one_that_has_never_answered_is_not(tmp_path: Path) -> None:
    remote = patient(Remote("r", Failing(tmp_path, iter([True]))))

    with pytest.raises(RemoteFailed):
        remote.read("a", max_bytes=4)


def test_one_that_was_given_up_is_waited_for_again_only_once_it_answers(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"here")
    backend = PatientBackend(Failing(tmp_path, iter([False, True, True, False, True])), patience_s=0.0)
    remote = Remote("r", backend)

    remote.read("a", max_bytes=4)
    for _ in range(2):
        with pytest.raises(RemoteFailed):
            remote.read("a", max_bytes=4)
    backend.patience_s = 60.0
    remote.read("a", max_bytes=4)
    assert remote.read("a", max_bytes=4) == b"here"


@pytest.mark.parametrize("is_late", [False, True])
def test_an_object_is_created_though_an_answer_is_lost(tmp_path: Path, is_late: bool) -> None:
    remote = patient(Remote("r", Failing(tmp_path, iter([False, True]), is_late=is_late)))

    assert remote.create("a", b"mine")
    assert remote.create("b", b"mine")
    assert not remote.create("b", b"another's")


def test_what_is_missing_is_an_answer(tmp_path: Path) -> None:
    remote = patient(Remote("r", Failing(tmp_path, iter([False, True]))))

    with pytest.raises(ObjectMissing):
        remote.read("a", max_bytes=4)
    with pytest.raises(ObjectMissing):
        remote.read("a", max_bytes=4)


def test_rights_that_are_missing_are_told_at_once(tmp_path: Path) -> None:
    class Closed(FolderBackend):
        def write(self, path: str, data: bytes) -> None:
            raise AccessDenied("no")

    with pytest.raises(AccessDenied):
        patient(Remote("r", Closed(tmp_path))).write("a", b"")


def test_it_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    remote = patient(Remote("r", FolderBackend(tmp_path), "below/"))
    remote.write("a", b"here")

    assert pickle.loads(pickle.dumps(remote)).read("a", max_bytes=4) == b"here"
