"""Bring a store, or a part of it, to a disk."""

import re
from dataclasses import dataclass
from pathlib import Path

from softlab.card.render import CARD_NAME, render_card
from softlab.disk import read_whole, sweep_temporaries, write_whole
from softlab.errors import InvalidOption
from softlab.identity import digest_of
from softlab.manifest import Manifest
from softlab.manifest.versions import VersionRecord
from softlab.sharing.fetch.content import Part, choose_features, choose_views, content_of, plan_part
from softlab.sharing.fetch.download import OnBytes
from softlab.sharing.fetch.local_copy import make_local_copy
from softlab.sharing.fetch.origin import Origin, open_origin
from softlab.sharing.signing.trust import check_digest
from softlab.store.cache import CacheOptions
from softlab.store.manifest_file import read_manifest_bytes
from softlab.store.place import place_of


@dataclass(frozen=True, kw_only=True, slots=True)
class PullOptions:
    """How much of a store, and how."""

    views: str | None = None
    """Which views: one, as in "0", or a run of them, as in "0-3"; default: all."""

    features: tuple[str, ...] | None = None
    """Which features; default: all, and () is none."""

    samples: Path | None = None
    """Only the samples with these keys: a file with one a line; default: all."""

    jobs: int = 16
    """Files fetched at once."""

    digest: str | None = None
    """Pull only the store with this digest: the one that `verified_digest` gives for a trusted signature."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise InvalidOption(f"jobs = {self.jobs}: expected 1 or more. Change --jobs.")
        self.parse_views()

    def parse_views(self) -> range | None:
        """Raises InvalidOption."""
        if self.views is None:
            return None
        found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", self.views)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise InvalidOption(
                f"views = {self.views!r}: expected one, as in --views 0, or a run of them, as in --views 0-3."
            )
        return range(first, last + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulled:
    """A store that is there now."""

    out: Path
    manifest: Manifest
    digest: str
    is_whole: bool
    """Whether nothing was left out; of a part the manifest's parent is the digest of the whole."""

    version: VersionRecord | None
    """The one it was pulled from, where the store was asked for by name and version."""

    bytes_fetched: int
    """By this call: what is there already is not fetched again."""

    bytes_of_whole: int
    """Of the store that it was pulled from."""


def pull(
    where: str | Path, out: str | Path, options: PullOptions | None = None, *, on_bytes: OnBytes | None = None
) -> Pulled:
    """Copy the store at an address to the folder `out`: all of it, or only the views, features and samples asked for.

        softlab.pull("s3://bucket/labels/pets@latest", "pets.zarr", softlab.PullOptions(views="0-3"))

    A whole copy has the same bytes and the same digest. A part is a store with a digest of its own, whose manifest
    names the whole store as its parent.

    An interrupted pull goes on when the same call is made again. Files that are there are compared with their hashes,
    and damaged ones are fetched again. Chosen samples are different: their labels and features are the same to the bit,
    but they are written into new shards. If such a finished store is damaged later, pulling it again raises
    DamagedStore rather than mends it.

    Raises as `open_store` and `writing`; InvalidOption for views, features or samples that aren't there; DamagedStore
    also for a file that isn't what was published, of which nothing is kept; NotTrusted if the store has another digest
    than `options.digest`.
    """
    out, options = _folder(out), options or PullOptions()
    origin = open_origin(where)
    if options.digest is not None:
        check_digest(origin.digest, options.digest, where=where)
    part = Part(views=choose_views(origin, options.parse_views()), features=choose_features(origin, options.features))
    found = None if options.samples is None else _pull_samples(origin, part, out, options, on_bytes=on_bytes)
    if found is None:
        found = make_local_copy(origin, content_of(origin, part), out, jobs=options.jobs, on_bytes=on_bytes)
    manifest, fetched = found
    digest = digest_of(read_manifest_bytes(out))
    return Pulled(
        out=out,
        manifest=manifest,
        digest=digest,
        is_whole=digest == origin.digest,
        version=origin.version,
        bytes_fetched=fetched + len(origin.manifest_bytes),
        bytes_of_whole=origin.num_bytes,
    )


def _folder(out: str | Path) -> Path:
    place = place_of(out)
    if not isinstance(place, Path):
        raise InvalidOption(
            f"{place}: a store is pulled into a folder. To have it in another bucket, `softlab push` it from where it "
            f"is."
        )
    return place


def _pull_samples(
    origin: Origin, part: Part, out: Path, options: PullOptions, *, on_bytes: OnBytes | None
) -> tuple[Manifest, int] | None:
    """As `make_local_copy`, of the chosen samples alone; None where those are all that there are."""
    from softlab.sharing.fetch.chosen_samples import choose_samples, plan_samples
    from softlab.store.reader import Store  # files are copied without what reads rows, which is slow to import

    assert options.samples is not None, "asked for"
    store = Store(origin.remote, origin.manifest, origin.digest, cache=CacheOptions(max_bytes=0), name=origin.name)
    chosen = choose_samples(store, options.samples)
    if chosen is None:
        return None
    from softlab.sharing.fetch.chosen_rows import ChosenRows  # it measures rows, and so imports torch

    plan = plan_samples(plan_part(origin.manifest, origin.digest, part), chosen)
    rows = ChosenRows(store=store, chosen=chosen.fitted_to(plan), plan=plan, jobs=options.jobs, on_bytes=on_bytes)
    of_table = sum(file.bytes for file in origin.manifest.samples_files)
    manifest, fetched = rows.write(out), rows.bytes_fetched + of_table
    _complete_card(out, manifest, origin)
    sweep_temporaries(out)  # those of a pull that was killed when it had written all but the card
    return manifest, fetched


def _complete_card(out: Path, manifest: Manifest, origin: Origin) -> None:
    """Add the whole store's licence, and what its owner wrote, to a card that the writer made; a changed card stays."""
    path = out / CARD_NAME
    if read_whole(path) in (None, render_card(manifest).encode()):
        write_whole(out, {CARD_NAME: origin.card_of_part(manifest).encode()})
