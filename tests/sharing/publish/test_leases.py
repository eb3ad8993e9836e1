import secrets
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from softlab.errors import InvalidOption
from softlab.remote.folder import FolderBackend
from softlab.remote.remote import Remote
from softlab.sharing.publish import leases
from softlab.sharing.publish.leases import GcLease, PushLease
from tests.sharing.publishing import remote_of


def writer_of(tree: Remote) -> str:
    writer: str = msgspec.json.decode(tree.read("push.json", max_bytes=4096))["writer"]
    return writer


def test_a_push_is_told_what_lies_in_its_tree(folder: str) -> None:
    tree = remote_of(folder)
    tree.write("labels/0", b"1234")

    found = PushLease(tree, writer="0" * 32).hold()

    assert found.keys() == {"labels/0", "push.json"}
    assert found["labels/0"] == 4


def test_the_lease_is_that_of_the_last_push(folder: str) -> None:
    tree, ids = remote_of(folder), [secrets.token_hex(16) for _ in range(2)]

    written = []
    for writer in ids:
        PushLease(tree, writer=writer).hold()
        written.append(writer_of(tree))

    assert written == ids


def test_a_lease_is_written_again_only_now_and_then(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, lease = remote_of(folder), PushLease(remote_of(folder), writer="0" * 32)
    lease.hold()
    tree.delete(["push.json"])

    lease.renew()
    assert tree.size("push.json") is None
    monkeypatch.setattr(leases, "RENEW_S", 0.0)
    lease.renew()

    assert writer_of(tree) == "0" * 32


class Careless(FolderBackend):
    """A server that takes no notice of conditions."""

    def create(self, path: str, data: bytes) -> bool:
        self.write(path, data)
        return True


def test_a_server_that_takes_no_notice_of_conditions_is_refused(folder: str) -> None:
    careless = PushLease(Remote(folder, Careless(Path(folder))), writer="0" * 32)
    careful = PushLease(remote_of(folder), writer="1" * 32)

    careless.hold()
    with pytest.raises(InvalidOption, match="If-None-Match"):
        careless.check_conditions()

    careful.hold()
    careful.check_conditions()
    assert writer_of(remote_of(folder)) == "1" * 32


def test_a_server_is_not_refused_for_a_lease_that_another_push_has_removed(folder: str) -> None:
    tree = remote_of(folder)
    lease = PushLease(tree, writer="0" * 32)
    lease.hold()
    PushLease(tree, writer="1" * 32).release()

    lease.check_conditions()

    assert tree.list_objects() == []


def test_what_a_killed_push_has_left_of_its_check_is_removed_when_it_is_old(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, probe = remote_of(folder), f"push-{'0' * 32}.json"
    tree.write(probe, b"")
    lease = PushLease(tree, writer="0" * 32)

    lease.hold()
    assert tree.size(probe) is not None
    monkeypatch.setattr(leases, "STALE_AFTER", timedelta(0))
    lease.hold()

    assert [each.path for each in tree.list_objects()] == ["push.json"]


def test_a_gc_that_finds_no_lease_of_its_own_any_more_stops(folder: str) -> None:
    tree, lease = remote_of(folder), GcLease(remote_of(folder), writer="0" * 32)
    assert lease.acquire()
    assert lease.renew()

    tree.delete(["gc.json"])

    assert not lease.renew()


def test_a_gc_that_takes_long_writes_its_lease_again(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.0)
    monkeypatch.setattr(leases, "this_moment", iter(["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]).__next__)
    tree, lease = remote_of(folder), GcLease(remote_of(folder), writer="0" * 32)
    assert lease.acquire()
    before = tree.read("gc.json", max_bytes=4096)

    assert lease.renew()

    assert tree.read("gc.json", max_bytes=4096) != before


def test_a_gc_that_takes_over_from_another_stops_it(folder: str) -> None:
    first, second = (GcLease(remote_of(folder), writer=digit * 32) for digit in "01")
    assert first.acquire()

    assert second.acquire()  # it has judged the lease of the first to be old

    assert not first.renew()
    assert second.renew()
