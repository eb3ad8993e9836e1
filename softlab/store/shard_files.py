"""The files of a store's shards, each compared with the manifest before anyone sees it; remote ones read ahead."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from softlab.errors import NotAStore
from softlab.manifest import FileRecord, Manifest, ShardRecord
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.files import read_file
from softlab.store.format import StoreFormat
from softlab.store.read_ahead import ReadAhead


class ShardFiles:
    """Of one store."""

    def __init__(self, place: Place, manifest: Manifest, format: StoreFormat) -> None:
        self._place, self._manifest, self._format = place, manifest, format
        self._ahead = None if isinstance(place, Path) else ReadAhead(place)

    def read(self, shard: Shard, *, group: str) -> dict[str, bytes]:
        """Those that hold one group, by path. Raises NotAStore if the manifest doesn't name one, else as
        `read_file`."""
        records = self._records(shard, group)
        if self._ahead is not None:
            return self._ahead.take(records)
        with ThreadPoolExecutor(len(records)) as pool:  # reading and hashing leave the interpreter to others
            return {
                record.path: data
                for record, data in zip(
                    records, pool.map(lambda record: read_file(self._place, record), records), strict=True
                )
            }

    def begin(self, shards: Iterable[Shard], *, group: str, first: bool = False) -> None:
        """Fetch what `read` will ask for; see `ReadAhead`. Does nothing for a store on this machine."""
        if self._ahead is not None:
            self._ahead.begin([record for shard in shards for record in self._records(shard, group)], first=first)

    def drop(self, shards: Iterable[Shard], *, group: str) -> None:
        """Hold nothing of them any longer: their rows were found elsewhere."""
        if self._ahead is not None and not self._ahead.is_idle:
            self._ahead.drop([record for shard in shards for record in self._records(shard, group)])

    def shard_record(self, shard: Shard) -> ShardRecord:
        """What the manifest says about one shard."""
        return self._manifest.shards[shard.view * self._manifest.grid.parts_per_view + shard.part]

    def recorded(self, shard: Shard, *, group: str) -> str:
        """The hashes that the manifest records for the files of one shard and group, in one text."""
        return " ".join(record.blake3 for record in self._records(shard, group))

    def _records(self, shard: Shard, group: str) -> list[FileRecord]:
        records = {file.path: file for file in self.shard_record(shard).files}
        paths = sorted({self._format.path_of(field, shard) for field in self._manifest.storage.fields_of(group)})
        missing = set(paths) - records.keys()
        if missing:
            raise NotAStore(f"{self._place}: its manifest names no file {min(missing)}. Get the store again.")
        return [records[path] for path in paths]
