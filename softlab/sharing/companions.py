"""What is published beside a version for people and other tools: its card, its Croissant description, its figures."""

import hashlib

from softlab.manifest import MANIFEST_NAME, FileRecord
from softlab.manifest.versions import VersionRecord
from softlab.remote.address import Address, parse_address
from softlab.sharing.croissant import render_croissant
from softlab.sharing.figures import encode_figures, measure_figures
from softlab.store.card import render_card
from softlab.store.files import read_file
from softlab.store.kept_sections import is_generated
from softlab.store.published import version_path
from softlab.store.reader import Store


def companions(store: Store, version: VersionRecord, *, address: str, own_card: str | None) -> dict[str, bytes]:
    """By path below ROOT/NAME: `versions/3.md`, `versions/3.croissant.json`, `versions/3.figures.json`.

    `address` is the version's own, ROOT/NAME@3; a path on this machine is not told to others. A card that a person has
    rewritten is published as it is; of a generated one, what they filled in. Raises DamagedStore as reading does.
    """
    stem = version_path(version.name, version.version).removeprefix(f"{version.name}/").removesuffix(".json")
    where = parse_address(address)
    shown = None if where.is_local else where
    files = [
        FileRecord(path=MANIFEST_NAME, bytes=version.manifest_bytes, blake3=version.digest),
        store.manifest.samples_file,
    ]
    sha256 = {file.path: hashlib.sha256(read_file(store.path, file)).hexdigest() for file in files}
    return {
        f"{stem}.md": _card(store, version, address=shown, own_card=own_card).encode(),
        f"{stem}.croissant.json": render_croissant(store.manifest, version, address=shown, sha256=sha256),
        f"{stem}.figures.json": encode_figures(measure_figures(store)),
    }


def _card(store: Store, version: VersionRecord, *, address: Address | None, own_card: str | None) -> str:
    if own_card is not None and not is_generated(own_card):
        return own_card
    return render_card(store.manifest, version=version, address=address, own_card=own_card)
