"""Files of a store to which views may be added while it is read.

Its shards, its samples and its pixel digests are never touched by that. The files that describe the whole of it are
written anew, just before its manifest: `outputs/logits/logits/zarr.json` has another number of views then. Whoever has
read the manifest before makes those files as they were.
"""

from softlab.errors import DamagedStore
from softlab.manifest import FileRecord, Manifest
from softlab.remote.remote import Place
from softlab.store.files import read_file
from softlab.store.folder import make_layout


def read_as_it_was(place: Place, record: FileRecord, manifest: Manifest, *, next_step: str | None = None) -> bytes:
    """One file of the store that a manifest describes; raises as `read_file`."""
    try:
        return read_file(place, record, next_step=next_step)
    except DamagedStore:
        if record not in manifest.layout_files:
            raise
        made = make_layout(manifest.plan).get(record)
        if made is None:
            raise
        return made
