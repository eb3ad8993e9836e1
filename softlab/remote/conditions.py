"""Whether a server keeps the promise that an object is created only once."""

import secrets

from softlab.remote.remote import Remote


def honours_conditions(remote: Remote, *, probe: str) -> bool:
    """Tried on an object of this name, which nobody else uses; it is removed again. Some servers that speak S3 replace
    an object that is to be created: they ignore the header If-None-Match."""
    try:
        remote.create(probe, secrets.token_bytes(16))
        return not remote.create(probe, secrets.token_bytes(16))
    finally:
        remote.delete([probe])
