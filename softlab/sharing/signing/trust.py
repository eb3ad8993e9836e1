"""Check that somebody you trust has signed a store, before a single byte of it is used."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from softlab.errors import AccessDenied, NotTrusted, ObjectMissing
from softlab.remote.remote import TooLarge
from softlab.sharing.signing.bundle import MAX_SIGNATURE_BYTES
from softlab.sharing.signing.openssf import check_signature
from softlab.sharing.signing.options import SignerOptions
from softlab.sharing.signing.sign import Signable, read_signable
from softlab.store.cache import CacheOptions
from softlab.store.published import SIGNATURE_NAME, VERSION_NAME

if TYPE_CHECKING:
    from softlab.store.reader import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Vouched:
    """What a trusted signature vouches for."""

    digest: str
    """Of the store's manifest, hence of every byte."""

    signer: str
    name: str | None
    version: int | None
    """Where it was published: they are signed too, so that an older version can't stand in for a newer one."""


def verified_digest(where: str | Path, *, signer: SignerOptions, min_version: int | None = None) -> str:
    """The digest that a trusted signature vouches for; a store that is then opened must have this one.

    Raises NotTrusted where there is no such signature, and for a version before `min_version`.
    """
    return check_trust(where, signer=signer, min_version=min_version).digest


def check_trust(where: str | Path, *, signer: SignerOptions, min_version: int | None = None) -> Vouched:
    """As `verified_digest`, but also who signed, and which version."""
    signable = read_signable(where)
    by = check_signature(_read_signature(signable), signable.files, signer=signer, where=signable.where)
    record = signable.read_version()
    name, version = (None, None) if record is None else (record.name, record.version)
    if min_version is not None:
        _check_version(signable.where, version, min_version)
    return Vouched(digest=signable.digest, signer=by, name=name, version=version)


def open_trusted(
    where: str | Path, *, signer: SignerOptions, min_version: int | None = None, cache: CacheOptions | None = None
) -> "Store":
    """As `open_store`, but only for the store that a trusted signature vouches for; raises as `verified_digest`.

    signer = softlab.SignerOptions(key=Path("their-public-key.pem"))
    store = softlab.open_trusted("s3://bucket/labels/pets@3", signer=signer)
    """
    from softlab.store.reader import open_store  # `verify` reads no rows, and starts without it

    digest = verified_digest(where, signer=signer, min_version=min_version)
    cache = cache or CacheOptions()
    store = open_store(where, cache=cache)
    if isinstance(store.path, Path):  # its rows cost no more than to be decoded again
        store = open_store(where, cache=replace(cache, check="all"))
    check_digest(store.digest, digest, where=where)
    return store


def check_digest(found: str, vouched: str, *, where: str | Path) -> None:
    """Raises NotTrusted unless the store that was read is the signed one: a server may send two different ones."""
    if found != vouched:
        raise NotTrusted(
            f"{where}: was changed while it was read ({found[:12]}, signed is {vouched[:12]}). Try again; if it goes "
            f"on, don't use it, and tell whoever published it."
        )


def _read_signature(signable: Signable) -> bytes:
    place = signable.remote / signable.signature
    was_pulled = signable.signature == SIGNATURE_NAME and VERSION_NAME in signable.files
    since = ", or pull it again, if it was signed since" if was_pulled else ""
    try:
        return signable.remote.read(signable.signature, max_bytes=MAX_SIGNATURE_BYTES)
    except (ObjectMissing, AccessDenied):  # S3 denies what is missing to those who may not list
        raise NotTrusted(
            f"{signable.where}: is not signed (there is no {place}). Ask its publisher to `softlab sign` it{since}; a "
            f"part of a signed store is checked when it is pulled."
        ) from None
    except TooLarge:
        raise NotTrusted(f"{place}: over {MAX_SIGNATURE_BYTES:,} bytes is no signature. Have it signed anew.") from None


def _check_version(where: str, version: int | None, min_version: int) -> None:
    if version is None:
        raise NotTrusted(
            f"{where}: its signature is of no version, required is {min_version} or a later one. Take a published "
            f"store, NAME@VERSION, or leave `min_version` out."
        )
    if version < min_version:
        raise NotTrusted(
            f"{where}: is version {version}, required is {min_version} or a later one. A newer one may have been taken "
            f"back or hidden: ask its publisher, or ask for less with `min_version`."
        )
