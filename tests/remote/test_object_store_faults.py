"""What object_store.py makes of servers that fail."""

import time
from collections.abc import Callable, Iterator

import pytest

from softlab.errors import AccessDenied, ObjectMissing, RemoteError, RemoteFailed
from softlab.remote import clients, object_store
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote, TooLarge
from tests.servers.faulty import (
    Fault,
    FaultyServer,
    answering,
    breaking_off,
    dripping,
    pausing,
    replaced_by,
    running_faulty,
    silent,
    stalling,
    without_length,
    without_tag,
)
from tests.servers.lossy import LossyProxy, running_proxy
from tests.servers.s3 import S3Server

DATA = bytes(range(256)) * 2000
ANOTHER = bytes(reversed(DATA))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes minutes for a user takes seconds here."""
    monkeypatch.setattr(object_store, "PAUSES_S", (0.01, 0.02))
    patience = clients.Patience(timeout_s=0.5, silence_s=0.4, retry_s=1.0)
    for module in (clients, object_store):
        monkeypatch.setattr(module, "READING", patience)
    monkeypatch.setattr(clients, "CHANGING", clients.Patience(timeout_s=0.5, silence_s=None, retry_s=1.0))
    monkeypatch.setattr(clients, "SLOWEST_BYTES_PER_S", 4 << 20)
    monkeypatch.setattr(clients, "RETRIES", clients.RETRIES | {"max_retries": 2})


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with running_faulty({"labels/0": DATA}) as server:
        yield server


@pytest.fixture
def remote(server: FaultyServer) -> Remote:
    return connect(parse_address(f"{server.url}/labels"))


@pytest.fixture
def proxy(bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[LossyProxy]:
    """In front of the server of `bucket`."""
    for name in ("READING", "CHANGING"):
        monkeypatch.setattr(clients, name, clients.Patience(timeout_s=10.0, silence_s=None, retry_s=1.0))
    with running_proxy(s3_server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.mark.parametrize(
    "fault",
    [
        breaking_off(after=0, times=1),
        breaking_off(after=1000, times=1),
        breaking_off(after=1000, times=2),
        breaking_off(after=300_000, times=1, with_reset=True),
        breaking_off(after=300_000, times=1, takes_ranges=False),
        answering(500, times=2),
        answering(503, times=1),
        answering(429, times=1),
    ],
)
def test_a_read_gets_over_what_passes(server: FaultyServer, remote: Remote, fault: Fault) -> None:
    server.faults["labels/0"] = fault

    assert remote.read("0", max_bytes=len(DATA)) == DATA
    assert server.count("labels/0") > 1


@pytest.mark.parametrize("new", [b"short", ANOTHER], ids=["shorter", "of the same size"])
def test_an_object_that_is_replaced_while_it_is_read_is_one_of_both(
    server: FaultyServer, remote: Remote, new: bytes
) -> None:
    server.faults["labels/0"] = replaced_by(new, after=300_000)

    assert remote.read("0", max_bytes=len(DATA)) == new


def test_an_object_that_becomes_too_large_while_it_is_read_is_not_held(server: FaultyServer, remote: Remote) -> None:
    server.faults["labels/0"] = replaced_by(DATA + b"!", after=300_000)

    with pytest.raises(TooLarge, match="has 512,001 bytes, expected at most 512,000"):
        remote.read("0", max_bytes=len(DATA))


@pytest.mark.parametrize(
    ("fault", "kind", "text"),
    [
        (breaking_off(after=1000), RemoteFailed, "its 512,000 bytes broke off, 3 times. Try again"),
        (breaking_off(after=1000, with_reset=True), RemoteFailed, "its 512,000 bytes broke off, 3 times. Try again"),
        (dripping(pause_s=0.2), RemoteFailed, "its 512,000 bytes came too slowly, [23] times. Try again"),
        (stalling(after=1000), RemoteFailed, r"its 512,000 bytes came too slowly(, 2 times)?\. Try again"),
        (silent, RemoteFailed, "no answer in time. Try again"),
        (answering(500), RemoteFailed, "the server answers 500. Try again"),
        (answering(503, b"<Code>SlowDown</Code>"), RemoteFailed, "the server answers 503, SlowDown. Try again"),
        (answering(400), RemoteFailed, "the server answers 400. Try again"),
        (answering(301), RemoteFailed, r"lies elsewhere, as for another region \(AWS_REGION\)"),
        (without_length, RemoteFailed, "doesn't say how long its answer is. Try again"),
        (answering(401), AccessDenied, r"the credentials are not accepted \(401\)"),
        (answering(403), AccessDenied, r"access is denied \(403\)"),
        (answering(404), ObjectMissing, "is missing"),
        (answering(400, b"<Code>ExpiredToken</Code>"), AccessDenied, r"not accepted \(400, ExpiredToken\)"),
    ],
)
def test_what_does_not_pass_is_an_error_in_bounded_time(
    server: FaultyServer, remote: Remote, fault: Fault, kind: type[RemoteError], text: str
) -> None:
    server.faults["labels/0"] = fault
    start = time.monotonic()

    with pytest.raises(kind, match=f"{remote}/0: .*{text}") as caught:
        remote.read("0", max_bytes=len(DATA))

    assert time.monotonic() - start < 4
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [silent, dripping(pause_s=0.2)])
def test_a_high_limit_is_no_reason_to_wait_longer(server: FaultyServer, remote: Remote, fault: Fault) -> None:
    server.faults["labels/0"] = fault
    start = time.monotonic()

    with pytest.raises(RemoteFailed, match="Try again"):
        remote.read("0", max_bytes=1 << 30)

    assert time.monotonic() - start < 4


def test_a_large_object_is_waited_for_longer(
    server: FaultyServer, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "READING", clients.Patience(timeout_s=0.5, silence_s=3.0, retry_s=1.0))
    monkeypatch.setattr(clients, "SLOWEST_BYTES_PER_S", len(DATA) / 4)
    server.faults["labels/0"] = pausing(pause_s=0.8)

    assert remote.read("0", max_bytes=1 << 30) == DATA
    assert server.count("labels/0") == 2


def test_a_large_object_whose_bytes_stop_is_not_waited_for(
    server: FaultyServer, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it would have 64 seconds."""
    monkeypatch.setattr(clients, "SLOWEST_BYTES_PER_S", len(DATA) / 64)
    server.faults["labels/0"] = stalling(after=300_000)
    start = time.monotonic()

    with pytest.raises(RemoteFailed, match="came too slowly"):
        remote.read("0", max_bytes=1 << 30)

    assert time.monotonic() - start < 8


def test_nothing_that_a_server_writes_is_shown(server: FaultyServer, remote: Remote) -> None:
    said = b"<Error><Code>Teapot</Code><StringToSign>Credential=key Signature=abc</StringToSign></Error>"
    server.faults["labels/0"] = answering(403, said)

    with pytest.raises(AccessDenied, match=r"\(403, Teapot\)") as caught:
        remote.read("0", max_bytes=10)

    assert "Signature" not in str(caught.getrepr(style="short"))


def test_an_object_without_a_tag_is_read_but_never_replaced(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    name = bucket.removeprefix("s3://")
    server.objects[f"{name}/tag"], server.faults[f"{name}/tag"] = b"first", without_tag
    remote = connect(parse_address(bucket))
    read = remote.read_tagged("tag", max_bytes=10)

    with pytest.raises(RemoteFailed, match=r"gives no entity tags.* Choose another server"):
        remote.replace("tag", b"second", tag=read.tag)

    assert read.data == b"first"
    assert not any(request.startswith("PUT") for request in server.requests)


def create(remote: Remote) -> bool:
    return remote.create("record", b"ours")


def replace(remote: Remote) -> bool:
    return remote.replace("record", b"ours", tag=remote.read_tagged("record", max_bytes=10).tag)


@pytest.mark.parametrize("lost", [1, 2, 1000])
@pytest.mark.parametrize("change", [create, replace])
def test_a_change_whose_answer_is_lost_has_happened_once(
    bucket: str, proxy: LossyProxy, change: Callable[[Remote], bool], lost: int
) -> None:
    remote = connect(parse_address(bucket))
    if change is replace:
        remote.write("record", b"before")
    proxy.statuses.clear()
    proxy.lost = lost

    assert change(remote)
    assert proxy.statuses.count(200) == 1
    assert remote.read("record", max_bytes=10) == b"ours"
    assert [each.path for each in remote.list_objects()] == ["record"]


@pytest.mark.parametrize("lost", [1, 1000])
def test_a_creation_that_came_too_late_has_not_happened_though_its_answer_is_lost(
    bucket: str, proxy: LossyProxy, lost: int
) -> None:
    remote = connect(parse_address(bucket))
    remote.write("record", b"theirs")
    proxy.lost = lost

    assert not create(remote)
    assert remote.read("record", max_bytes=10) == b"theirs"


def test_a_replacement_is_not_said_to_have_failed_where_nobody_knows(bucket: str, proxy: LossyProxy) -> None:
    """Another writer may have replaced ours already."""
    remote = connect(parse_address(bucket))
    remote.write("record", b"before")
    tag = remote.read_tagged("record", max_bytes=10).tag
    remote.write("record", b"theirs")

    proxy.lost = 1
    assert not remote.replace("record", b"ours", tag=tag)

    proxy.lost = 1000
    with pytest.raises(RemoteFailed, match=r"the connection was lost. Try again"):
        remote.replace("record", b"ours", tag=tag)
    assert remote.read("record", max_bytes=10) == b"theirs"
