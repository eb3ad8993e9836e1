import pytest

from softlab.remote.address import parse_address
from softlab.remote.connect import connect


@pytest.mark.parametrize(
    "address",
    ["shared/labels", "s3://bucket/labels", "gs://bucket/labels", "az://container/labels", "https://host/labels"],
)
def test_a_remote_is_shown_as_its_address_and_not_asked_before_it_is_used(address: str) -> None:
    remote = connect(parse_address(address))

    assert str(remote) == address
    assert remote / "a" == f"{address}/a"
    assert repr(remote) == f"Remote(root={address!r}, folder='')"
    assert remote == connect(parse_address(f"{address}/"))
