"""Open a store that is measured: one on this machine's disk, as a server's speed is not this machine's."""

from pathlib import Path

from softlab.errors import InvalidOption
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store, open_store


def open_on_disk(where: str | Path, *, cache: CacheOptions | None = None) -> Store:
    """Raises InvalidOption for a store on a server, else as `open_store`."""
    store = open_store(where, cache=cache)
    if not isinstance(store.path, Path):
        raise InvalidOption(
            f"{where}: lies on a server, and bench measures this machine. Pull it first: `softlab pull {where} DIR`."
        )
    return store
