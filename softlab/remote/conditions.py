"""Whether a server keeps the promise that an object is created only once."""

import secrets

from softlab.remote.remote import Remote


def honours_conditions(remote: Remote, *, probe: str) -> bool:
    """Tried on an object beside `probe`, which is removed again. Some servers that speak S3 ignore If-None-Match, and
    replace what is there."""
    path = f"{probe}.{secrets.token_hex(16)}"
    try:
        remote.create(path, secrets.token_bytes(16))
        return not remote.create(path, secrets.token_bytes(16))
    finally:
        remote.delete([path])
