"""By whom published versions say that they are signed. Nothing is checked here: `softlab verify --signer` does that."""

from collections.abc import Sequence

from softlab.errors import NotTrusted
from softlab.manifest.versions import VersionRecord
from softlab.remote.address import parse_address
from softlab.remote.connect import connect
from softlab.remote.parallel import in_parallel
from softlab.remote.remote import Remote
from softlab.sharing.signing.bundle import decode_bundle
from softlab.store.published import read_if_there, signature_path

JOBS = 16
UNREADABLE = "unreadable"


def claimed_signers(root: str, versions: Sequence[VersionRecord]) -> list[str | None]:
    """Of each version below a catalogue's root `key 0123456789ab`, the beginning of the SHA-256 of the signer's public
    key file, or `certificate`; None where it is not signed."""
    remote = connect(parse_address(root))
    found = dict(in_parallel(lambda key: _claimed(remote, *key), [(v.name, v.version) for v in versions], jobs=JOBS))
    return [found[each.name, each.version] for each in versions]


def _claimed(remote: Remote, name: str, version: int) -> str | None:
    path = signature_path(name, version)
    data = read_if_there(remote, path)
    if data is None:
        return None
    try:
        hint = decode_bundle(data, where=remote / path).key_hash()
    except NotTrusted:
        return UNREADABLE
    return "certificate" if hint is None else f"key {hint[:12]}"
