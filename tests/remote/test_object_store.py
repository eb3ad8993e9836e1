"""Over SeaweedFS, a real S3 server."""

import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest

from softlab.errors import AccessDenied, InvalidOption, ObjectMissing, RemoteError, RemoteFailed
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote
from softlab.testing.remotes import WriteContract
from tests.servers.faulty import answering, running_faulty
from tests.servers.s3 import ACCESS_KEY, READER_KEY, READER_SECRET, SECRET_KEY, S3Server


def change(remote: Remote) -> None:
    remote.write("new", b"data")


def create(remote: Remote) -> None:
    remote.create("new", b"data")


def read(remote: Remote) -> None:
    remote.read("plain", max_bytes=10)


def list_all(remote: Remote) -> None:
    remote.list_objects()


def delete(remote: Remote) -> None:
    remote.delete(["plain"])


@pytest.fixture(scope="module")
def shared_bucket(s3_server: S3Server) -> str:
    """For tests that each have a folder of their own; the first write into a bucket takes a while."""
    return s3_server.make_bucket("contract")


class TestS3(WriteContract):
    @pytest.fixture
    def holding(
        self, s3_server: S3Server, shared_bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[Mapping[str, bytes]], Remote]:
        for name, value in s3_server.environment.items():
            monkeypatch.setenv(name, value)

        def hold(objects: Mapping[str, bytes]) -> Remote:
            remote = connect(parse_address(f"{shared_bucket}/{secrets.token_hex(6)}"))
            for path, data in objects.items():
                remote.write(path, data)
            return remote

        return hold


def test_a_bucket_itself_is_a_folder(bucket: str) -> None:
    remote = connect(parse_address(bucket))
    remote.write("labels/0", b"data")

    assert [each.path for each in remote.list_objects()] == ["labels/0"]
    assert remote.list_folders() == ["labels"]


def test_more_objects_than_one_answer_lists_are_listed_and_deleted(bucket: str) -> None:
    remote = connect(parse_address(bucket))
    paths = [f"commits/{number:04}" for number in range(1005)]
    for path in paths:
        remote.write(path, b"")

    assert [each.path for each in remote.list_objects("commits")] == paths

    remote.delete(paths)
    assert remote.list_objects() == []


@pytest.mark.parametrize("ask", [read, list_all])
def test_a_bucket_that_is_not_there_is_named(bucket: str, ask: Callable[[Remote], None]) -> None:
    remote = connect(parse_address(f"s3://no-{bucket.removeprefix('s3://')}"))

    with pytest.raises(ObjectMissing, match=r"there is no such bucket. Correct the address, or create the bucket"):
        ask(remote)


@pytest.mark.parametrize("ask", [change, create])
def test_a_bucket_that_is_not_there_is_named_by_those_who_would_write(
    bucket: str, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Remote], None]
) -> None:
    """SeaweedFS would make the bucket; others answer like this."""
    with running_faulty() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        server.faults["none/new"] = answering(404, b"<Error><Code>NoSuchBucket</Code></Error>")

        with pytest.raises(ObjectMissing, match=r"s3://none/new: there is no such bucket. Correct the address"):
            ask(connect(parse_address("s3://none")))


@pytest.mark.parametrize(("key", "secret"), [(ACCESS_KEY, "a-wrong-secret"), ("nobody", SECRET_KEY)])
@pytest.mark.parametrize("ask", [read, list_all, change, create, delete])
def test_wrong_credentials_are_not_accepted(
    bucket: str, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Remote], None], key: str, secret: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)

    with pytest.raises(AccessDenied, match=r"credentials are not accepted \(403, \w+\). Check that your credentials"):
        ask(connect(parse_address(bucket)))


@pytest.mark.parametrize("ask", [change, create, delete])
def test_those_who_may_only_read_may_not_change(
    bucket: str, monkeypatch: pytest.MonkeyPatch, ask: Callable[[Remote], None]
) -> None:
    connect(parse_address(bucket)).write("plain", b"as bytes")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    remote = connect(parse_address(bucket))

    with pytest.raises(AccessDenied, match=r"access is denied \((403, )?AccessDenied\). Check that your credentials"):
        ask(remote)
    assert remote.read("plain", max_bytes=10) == b"as bytes"


def test_a_server_that_is_gone_is_an_error_with_a_next_step(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_faulty() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)

    with pytest.raises(RemoteFailed, match=r"can't be reached. Try again; if it stays so, check the server"):
        connect(parse_address(bucket)).size("plain")


@pytest.mark.parametrize("ask", [read, list_all, change])
def test_no_credential_is_in_what_a_user_may_see(
    bucket: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ask: Callable[[Remote], None]
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "an-old-token")
    remote = connect(parse_address(bucket))

    with pytest.raises(RemoteError) as caught:
        ask(remote)

    shown = "\n".join([str(caught.getrepr(style="short")), repr(caught.value), str(remote), repr(remote), caplog.text])
    shown += repr(remote.backend) + repr(vars(remote.backend))
    for private in (ACCESS_KEY, SECRET_KEY, "a-wrong-secret", "an-old-token", "Signature="):
        assert private not in shown


@pytest.mark.process
def test_a_fork_of_a_process_that_used_one_is_told_how_to_start_instead() -> None:
    """There the threads of the client are missing, and a request would wait for ever."""
    code = """
import os, sys
from softlab.remote.address import parse_address
from softlab.remote.connect import connect

remote = connect(parse_address(sys.argv[1]))
if sys.argv[2] == "used":
    remote.read("plain", max_bytes=10)
child = os.fork()
if child == 0:
    try:
        print(remote.read("plain", max_bytes=10).decode(), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(remote.read("plain", max_bytes=10).decode())
"""
    with running_faulty({"plain": b"as bytes"}) as server:
        said = {
            use: subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code, server.url, use],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout.splitlines()
            for use in ("used", "unused")
        }

    assert said["unused"] == ["as bytes", "as bytes"]
    assert said["used"][0].startswith(InvalidOption.__name__)
    assert "Start such processes with multiprocessing's 'spawn' or 'forkserver'" in said["used"][0]
    assert said["used"][1] == "as bytes"
