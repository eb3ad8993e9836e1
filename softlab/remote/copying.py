"""Copies within a bucket, which its server makes without sending the bytes to anyone."""

from collections.abc import Callable

from softlab.remote.address import Address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote

BUCKETS = ("s3", "gs", "az")


def copier(source: Remote, target: Remote) -> Callable[[str], None] | None:
    """Copies an object from one folder to the other, under the same name; None unless both lie in one bucket. Raises
    ObjectMissing as `Remote.copy`."""
    (bucket, above), (other, below) = _split(source), _split(target)
    if bucket is None or bucket != other:
        return None
    whole = connect(Address(root=bucket))
    return lambda path: whole.copy(above + path, below + path)


def _split(remote: Remote) -> tuple[str | None, str]:
    """The bucket's address, and what stands before an object's name in it; no bucket where there is no server."""
    scheme, _, rest = str(remote).partition("://")
    bucket, _, folder = rest.partition("/")
    return (f"{scheme}://{bucket}" if scheme in BUCKETS else None), (f"{folder}/" if folder else "")
