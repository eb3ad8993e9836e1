"""Sign a store. A signature covers the manifest, hence every byte, and of a published store also its version."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from softlab.disk import sweep_beside
from softlab.errors import DamagedStore, RemoteFailed, StoreExists
from softlab.identity import digest_of
from softlab.manifest import MANIFEST_NAME, decode_manifest
from softlab.manifest.versions import MAX_RECORD_BYTES, VersionRecord
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.remote import Remote, TooLarge
from softlab.sharing.signing.bundle import MAX_SIGNATURE_BYTES
from softlab.sharing.signing.openssf import is_signed_with, sign_files
from softlab.sharing.signing.options import SigningOptions
from softlab.store.manifest_file import read_manifest_bytes
from softlab.store.published import (
    SIGNATURE_NAME,
    VERSION_NAME,
    decode_record,
    locate,
    read_if_there,
    signature_path,
    version_path,
)
from softlab.store.verify import verify_store


@dataclass(frozen=True, kw_only=True, slots=True)
class Signable:
    """The few files of a store that a signature covers, and where that signature lies."""

    where: str
    remote: Remote
    signature: str
    """Its path in the remote."""

    files: dict[str, bytes]
    """Name to bytes: the manifest, and of a published or pulled store also its version record."""

    @property
    def digest(self) -> str:
        """Of the store."""
        return digest_of(self.files[MANIFEST_NAME])

    def read_version(self) -> VersionRecord | None:
        """None where it has no version. Raises NotAStore for something that is no record, DamagedStore for one of
        another store."""
        if VERSION_NAME not in self.files:
            return None
        record = decode_record(self.files[VERSION_NAME], VersionRecord, where=f"{self.where}: {VERSION_NAME}")
        if record.digest != self.digest:
            raise DamagedStore(
                f"{self.where}: its manifest is not the one that was published as {record.name}@{record.version} "
                f"({self.digest[:12]}, not {record.digest[:12]}). Get the store again."
            )
        return record


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """What was signed, and where the signature is."""

    signature: str
    digest: str
    version: str | None
    """As NAME@VERSION, where it is part of what was signed."""


def sign_store(
    where: str | Path,
    *,
    options: SigningOptions,
    verify: bool = True,
    replace: bool = False,
    on_file: Callable[[int, int], None] | None = None,
) -> Signed:
    """Sign a finished store, a folder or a published NAME@VERSION, so that others can tell whose it is.

    Before that, the manifest is compared with the version record, and with `verify` every file of a folder is hashed.
    Raises DamagedStore if any differs, and StoreExists for a store that is signed already, unless `replace` is set or
    it is signed with this very key: an earlier command may have been stopped at its end.
    """
    signable = read_signable(where)
    decode_manifest(signable.files[MANIFEST_NAME], where=signable.where)
    record = signable.read_version()
    if verify and parse_address(where).name is None:
        _check_files(where, signable, on_file=on_file)
    data = sign_files(signable.files, options)
    if replace:
        signable.remote.write(signable.signature, data)
    elif not signable.remote.create(signable.signature, data) and not _is_signed_with(options, signable):
        raise StoreExists(
            f"{signable.remote / signable.signature}: is signed already. `softlab verify {where} --signer PUBLIC.pem` "
            f"tells by whom; --replace puts yours in its place."
        )
    if parse_address(where).is_local:
        sweep_beside(Path(signable.remote / signable.signature))
    return Signed(
        signature=signable.remote / signable.signature,
        digest=signable.digest,
        version=None if record is None else f"{record.name}@{record.version}",
    )


def read_signable(where: str | Path) -> Signable:
    """Of a store in a folder, at a URL, or published under a name and version. Raises NotAStore and
    UnfinishedStore, ObjectMissing for a version that isn't published, and what a remote raises."""
    remote, located = connect(parse_address(where)), locate(where)
    files = {MANIFEST_NAME: read_manifest_bytes(located.place, version=located.version)}
    if located.version is not None:
        files[VERSION_NAME] = _read_record(remote, located.version)
        signature = signature_path(located.version.name, located.version.version)
        return Signable(where=str(where), remote=remote, signature=signature, files=files)
    record = read_if_there(remote, VERSION_NAME)  # to hide it helps no attacker: the signature covers it
    if record is not None:
        files[VERSION_NAME] = record
    return Signable(where=str(where), remote=remote, signature=SIGNATURE_NAME, files=files)


def _is_signed_with(options: SigningOptions, signable: Signable) -> bool:
    try:
        data = signable.remote.read(signable.signature, max_bytes=MAX_SIGNATURE_BYTES)
    except TooLarge:
        return False
    return is_signed_with(options, data, signable.files, where=signable.where)


def _read_record(remote: Remote, version: VersionRecord) -> bytes:
    """The bytes of the version record as they were written: these are what is signed."""
    path = version_path(version.name, version.version)
    data = remote.read(path, max_bytes=MAX_RECORD_BYTES)
    if decode_record(data, VersionRecord, where=remote / path) != version:
        raise RemoteFailed(f"{remote / path}: changed while it was read, and versions never change. Try again.")
    return data


def _check_files(where: str | Path, signable: Signable, *, on_file: Callable[[int, int], None] | None) -> None:
    report = verify_store(where, on_file=on_file)
    if report.is_intact and report.digest == signable.digest:
        return
    wrong = [*report.damaged, *report.missing, *report.foreign] or [MANIFEST_NAME]
    raise DamagedStore(
        f"{where}: {len(wrong):,} files are damaged, missing or foreign, the first one {wrong[0]}. "
        f"`softlab verify {where}` lists them; mend that, or sign with --no-verify."
    )
