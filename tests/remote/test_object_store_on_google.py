"""Google Cloud Storage, whose conditions are of generations: object_store.py over a server that answers alike."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote
from softlab.sharing.catalogue.versions import move_tag
from softlab.store.published import read_tag
from tests.servers.gcs import running_google


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    with running_google() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        yield connect(parse_address("gs://bucket/labels"))


def test_an_object_is_created_once(remote: Remote) -> None:
    assert remote.create("record", b"ours")
    assert not remote.create("record", b"theirs")

    assert remote.read("record", max_bytes=10) == b"ours"


def test_only_the_object_that_was_read_is_replaced(remote: Remote) -> None:
    remote.write("record", b"first")
    tag = remote.read_tagged("record", max_bytes=10).tag

    assert remote.replace("record", b"second", tag=tag)
    assert not remote.replace("record", b"third", tag=tag)

    assert remote.read("record", max_bytes=10) == b"second"


def test_an_object_of_the_same_bytes_as_before_is_another_one(remote: Remote) -> None:
    remote.write("record", b"first")
    tag = remote.read_tagged("record", max_bytes=10).tag
    remote.write("record", b"first")

    assert not remote.replace("record", b"second", tag=tag)


def test_a_tag_of_a_published_store_is_moved(remote: Remote) -> None:
    for version in (1, 2):
        move_tag(remote, "pets", "latest", version=version, writer="0" * 32)

    assert read_tag(remote, "pets", "latest").version == 2
