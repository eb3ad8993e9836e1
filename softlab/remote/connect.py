"""From an address to the folder of objects that it means."""

from pathlib import Path

from softlab.remote.address import Address
from softlab.remote.remote import Remote


def connect(address: Address) -> Remote:
    """The folder at the address's root; nothing is asked of it yet. Raises InvalidOption where the library for this
    kind of place isn't installed, or refuses the address."""
    scheme = address.root.partition("://")[0]
    if address.is_local:
        from softlab.remote.folder import FolderBackend

        return Remote(address.root, FolderBackend(Path(address.root)))
    if scheme == "hf":
        from softlab.remote.hub import HubBackend

        return Remote(address.root, HubBackend(address.root))
    from softlab.remote.object_store import ObjectStoreBackend

    return Remote(address.root, ObjectStoreBackend(address.root))
