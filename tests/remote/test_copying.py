import pytest

from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.copying import copier
from softlab.remote.remote import Remote


def remote_at(address: str) -> Remote:
    return connect(parse_address(address))


@pytest.mark.process
@pytest.mark.parametrize(("source", "target"), [("/runs/a", "/labels"), ("", "/labels"), ("/runs", "")])
def test_an_object_is_copied_within_a_bucket(bucket: str, source: str, target: str) -> None:
    remote_at(f"{bucket}{source}").write("c/0", b"data")
    copy = copier(remote_at(f"{bucket}{source}"), remote_at(f"{bucket}{target}").within("pets"))

    assert copy is not None
    copy("c/0")
    assert remote_at(f"{bucket}{target}").read("pets/c/0", max_bytes=4) == b"data"


@pytest.mark.parametrize(
    ("source", "target"),
    [("s3://one/a", "s3://other/a"), ("s3://one/a", "gs://one/a"), ("https://one/a", "https://one/b"), ("a", "b")],
)
def test_nothing_is_copied_between_others(source: str, target: str) -> None:
    assert copier(remote_at(source), remote_at(target)) is None
