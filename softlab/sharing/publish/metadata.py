"""What is published beside a version for people and other tools: its card, its Croissant description, its figures."""

import hashlib

from softlab.card.kept_sections import is_generated
from softlab.card.render import CARD_NAME, render_card
from softlab.errors import InvalidOption
from softlab.manifest import MANIFEST_NAME
from softlab.manifest.versions import MAX_RECORD_BYTES, VersionRecord
from softlab.remote.address import Address, parse_address
from softlab.sharing.catalogue.croissant import render_croissant
from softlab.sharing.publish.about import describe_store, encode_about
from softlab.store.files import read_file
from softlab.store.published import version_path
from softlab.store.reader import Store

MAX_CARD_BYTES = MAX_RECORD_BYTES
"""`pull` reads no larger card."""


def metadata_files(
    store: Store, version: VersionRecord, *, manifest: bytes, address: str, own_card: str | None
) -> dict[str, bytes]:
    """Path below ROOT/NAME to bytes: `versions/3.md`, `versions/3.croissant.json`, `versions/3.figures.json`,
    `versions/3.about.json`. Of a store of values alone there are no figures.

    `manifest` is the store's as it was pushed. `address` is that of the version, ROOT/NAME@3; a path on this machine
    is not written into the files. `own_card` is the card beside the store. If a person has rewritten it, it is
    published as it is. Else a card is generated for the version, with the sections that they filled in. Raises
    DamagedStore as reading does, and InvalidOption as `encode_card`.
    """
    from softlab.sharing.publish.figures import encode_figures, measure_figures  # rows are measured with torch

    stem = version_path(version.name, version.version).removeprefix(f"{version.name}/").removesuffix(".json")
    sha256 = {MANIFEST_NAME: hashlib.sha256(manifest).hexdigest()}
    if len(store.manifest.samples_files) == 1:  # of several only their folder is told
        samples = store.manifest.samples_file
        sha256[samples.path] = hashlib.sha256(read_file(store.path, samples)).hexdigest()
    return {
        f"{stem}.md": encode_card(store, version, address=address, own_card=own_card),
        f"{stem}.croissant.json": render_croissant(store.manifest, version, address=_shown(address), sha256=sha256),
        **({f"{stem}.figures.json": encode_figures(measure_figures(store))} if store.has_labels else {}),
        f"{stem}.about.json": encode_about(describe_store(store.manifest, digest=store.digest)),
    }


def encode_card(store: Store, version: VersionRecord, *, address: str, own_card: str | None) -> bytes:
    """The card as it is published. Raises InvalidOption for one that is too large to be pulled."""
    if own_card is None or is_generated(own_card):
        own_card = render_card(store.manifest, version=version, address=_shown(address), own_card=own_card)
    card = own_card.encode()
    if len(card) > MAX_CARD_BYTES:
        raise InvalidOption(
            f"{store.name}: its card would have {len(card):,} bytes, and at most {MAX_CARD_BYTES:,} are published. "
            f"Shorten its {CARD_NAME}."
        )
    return card


def _shown(address: str) -> Address | None:
    """The address as others may see it; None for a path on this machine."""
    where = parse_address(address)
    return None if where.is_local else where
