"""Open a finished store and read rows from it: any samples, in any order, with repeats."""

# Shape letters: B rows asked for.

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlab.errors import InvalidOption, StoreMismatch, suggest
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.indices import RecipeIndex, StoreIndex
from softlab.keys import Keys
from softlab.labels.origin import Origin
from softlab.labels.values_coding import decode_values
from softlab.manifest import ClassesRecord, Manifest, ShardRecord, Statistics
from softlab.remote.remote import Place
from softlab.shards import Shard
from softlab.store.cache import CacheOptions
from softlab.store.decoded_groups import DecodedGroups
from softlab.store.format import Array, empty_arrays
from softlab.store.label_coding import coding_of
from softlab.store.manifest_file import check_published, read_manifest
from softlab.store.pixel_digests import PixelDigests
from softlab.store.published import locate
from softlab.store.row_checks import by_view, check_samples
from softlab.store.rows import Rows
from softlab.store.samples import SampleTable
from softlab.store.stored_tables import StoredTables
from softlab.store.unit_rows import UnitRows, places_of_rows

if TYPE_CHECKING:
    from torch import Tensor

    from softlab.labels.coding import LabelCoding
    from softlab.labels.sampled_coding import SampledCoding
    from softlab.labels.soft_labels import Head, SoftLabels

LARGE_TABLE = 1 << 22
"""Samples, whose table takes 250 MiB in memory."""


class Store:
    """What a teacher gave for each sample of a source, finished and checked as it is read; made by `open_store`.

        store = softlab.open_store("runs/pets.zarr")
        labels = store.read([5, 2, 9], view=1)
        pooled = store.read_features("pooled", [5, 2, 9])

    Samples are counted from 0 in the order of `store.read_samples().keys`, which is that of the source. They may be
    read in any order and as often as one likes; decoded rows stay in a cache on this machine. A store can be sent to
    other processes, which open its files anew.
    """

    def __init__(
        self, path: Place, manifest: Manifest, digest: str, *, cache: CacheOptions, name: str | None = None
    ) -> None:
        """With the name that messages have for it, by default its path."""
        self.path, self.manifest, self.digest = path, manifest, digest
        self.name = str(path) if name is None else name
        self._cache = cache
        self._coding: LabelCoding | SampledCoding | None = None
        self._origin: Origin | None = None
        self._named: dict[str | None, str] = {each.name: manifest.group_of(each) for each in manifest.values}
        """Groups by feature; that of the labels by None. Looked up in every read."""
        if manifest.classes:
            self._named[None] = manifest.group_of(manifest.classes[0])
        self._units: UnitRows | None = None
        self._tables = StoredTables(path, manifest, name=self.name, digest=digest, cache=cache)
        self._groups = DecodedGroups(path, manifest, digest, name=self.name, cache=cache, units=lambda: self.units)

    @property
    def cache(self) -> CacheOptions:
        """Where its decoded rows are kept on this machine."""
        return self._cache

    def __len__(self) -> int:
        return self.num_samples

    def __repr__(self) -> str:
        return f"Store({self.name.rstrip('/').rpartition('/')[2]}, {self.manifest.in_a_line})"

    @property
    def num_samples(self) -> int:
        return self.manifest.source.num_samples

    @property
    def num_views(self) -> int:
        return self.manifest.views.num_views

    @property
    def labels(self) -> ClassesRecord:
        """The output that is read as soft labels: the first of kind `classes`. StoreMismatch if there is none."""
        if not self.manifest.classes:
            held = ", ".join(output.name for output in self.manifest.outputs)
            raise StoreMismatch(
                f"{self.name}: holds no soft labels, only values ({held}). Learn them with a "
                f"loss on values (`loss.name = cosine`), as features (under `feature`) with `teachers.alpha = 0`, or "
                f"dump an output of kind classes."
            )
        return self.manifest.classes[0]

    @property
    def has_labels(self) -> bool:
        return bool(self.manifest.classes)

    @property
    def num_classes(self) -> int:
        return self.labels.label_space.num_classes

    @property
    def class_names(self) -> tuple[str, ...] | None:
        return self.labels.label_space.class_names if self.has_labels else None

    @property
    def head(self) -> "Head":
        return self.labels.head

    @property
    def k(self) -> int:
        return self.labels.selection.k

    @property
    def coding(self) -> "LabelCoding | SampledCoding":
        """How soft labels became its arrays."""
        if self._coding is None:  # made when it is first asked for: whoever only copies files starts without torch
            self._coding = coding_of(self.labels)
        return self._coding

    @property
    def temperatures(self) -> tuple[float, ...]:
        return self.labels.selection.temperatures

    @property
    def interpolates(self) -> bool:
        """Whether its tails can be told at temperatures that aren't stored."""
        return self.labels.interpolates is not False

    @property
    def statistics(self) -> Statistics:
        """How good its soft labels are."""
        return self.manifest.statistics[self.labels.name]

    @property
    def origin(self) -> Origin:
        """What its soft labels tell a loss of it."""
        if self._origin is None:
            self._origin = _origin_of(self)
        return self._origin

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Its outputs of kind `values`."""
        return tuple(output.name for output in self.manifest.values)

    def shape_of(self, feature: str) -> tuple[int, ...]:
        """Of one row of one of its outputs of kind `values`. Raises InvalidOption for an unknown one."""
        group = self._group_named(feature)
        fields = self.manifest.storage.fields_of(group)
        return next(field.row_shape for field in fields if field.name == group or field.short_name == "values")

    def with_labels(self, output: str) -> "Store":
        """The same store, whose soft labels are those of another output of kind `classes`. Raises InvalidOption where
        there is no such output."""
        names = [each.name for each in self.manifest.classes]
        if output not in names:
            is_values = (
                f"It is one of values: students learn it with `loss.name = cosine` and `loss.output = {output}`."
            )
            raise InvalidOption(
                f"{self.name}: has no output {output!r} of kind classes (it has: {', '.join(names) or 'none'}). "
                f"{is_values if output in self.feature_names else suggest(output, names)}"
            )
        others = [each for each in self.manifest.outputs if each.name != output]
        chosen = next(each for each in self.manifest.outputs if each.name == output)
        manifest = msgspec.structs.replace(self.manifest, outputs=(chosen, *others))
        return Store(self.path, manifest, self.digest, cache=self._cache, name=self.name)

    @property
    def units(self) -> UnitRows | None:
        """Which rows each sample has, where an output has a row for each unit of a sample; None where none has."""
        if self._units is None and self.manifest.has_units:
            rows_N = self.read_samples().rows_N
            assert rows_N is not None, "the table of samples was checked"
            self._units = UnitRows(rows_N)
        return self._units

    def counts(self, samples: ArrayLike) -> NDArray[np.int64] | None:
        """How many rows of soft labels each of B samples has; None where all have one. Raises as `read`."""
        if not self.labels.units or self.units is None:
            return None
        return self.units.counts(check_samples(samples, num_samples=self.num_samples, where=self.name))

    @property
    def rows_per_sample(self) -> float:
        """Of soft labels, in the mean; 1 without units."""
        units = self.units if self.labels.units else None
        return 1.0 if units is None else units.num_rows / self.num_samples

    def read_units(self, samples: ArrayLike) -> "Tensor | None":
        """Which position of its sample each row of soft labels is, int64 [R]; None where each sample has one row.
        Raises as `read`."""
        if not self.labels.units:
            return None
        return self.unpack_units(self._take(self._group_named(None), samples, view=0))

    def unpack_units(self, rows: Rows) -> "Tensor":
        """The same of what `read_packed` gave, of a store whose samples have units."""
        group = self._group_named(None)
        return self._unpack(group, _tensor(rows))[f"{group}/unit"].long() & 0xFFFFFFFF

    def fits_cache(self, features: Iterable[str] = ()) -> bool:
        """Whether the row cache may hold the labels and some features at once."""
        groups = [self._group_named(None)] if self.has_labels else []
        groups += [self._group_named(name) for name in features]
        table_bytes = CONTENT_HASH_BYTES * self.num_samples if self.has_large_table else 0
        if self.has_large_table and not isinstance(self.path, Path):
            table_bytes += sum(file.bytes for file in self.manifest.samples_files)
        return sum(map(self._groups.bytes_when_decoded, groups)) + table_bytes <= self._cache.max_bytes

    def read(self, samples: ArrayLike, *, view: ArrayLike = 0) -> "SoftLabels":
        """Soft labels of B samples, in the order asked for, in one view or each in its own.

        Where samples have units: the rows of all of them, one sample behind the other, and in `counts_B` how many each
        has. Raises InvalidOption for a sample or view that isn't there, DamagedStore if a shard's bytes differ from the
        manifest, StoreMismatch for a store without soft labels.
        """
        return self.unpack(_tensor(self.read_packed(samples, view=view)), counts_B=self.counts(samples))

    def read_packed(self, samples: ArrayLike, *, view: ArrayLike = 0, feature: str | None = None) -> Rows:
        """The labels, or one feature, of B samples as they lie in the row cache, uint8 [B, row bytes]: one gather, the
        fewest bytes to hand to another device, where they are unpacked. With units [R, row bytes], all their rows.
        Raises as `read`, and InvalidOption for an unknown feature."""
        return self._take(self._group_named(feature), samples, view=view)

    def prefetch(self, samples: ArrayLike, *, view: ArrayLike = 0, feature: str | None = None) -> None:
        """Begin to fetch what a later read of these rows needs and this machine doesn't have yet, and return at once;
        of a local store nothing. What can't be fetched is no error before it is read. Raises InvalidOption as
        `read_packed`."""
        if isinstance(self.path, Path):
            return
        group = self._group_named(feature)
        store_B = check_samples(samples, num_samples=self.num_samples, where=self.name)
        for each, chosen in by_view(view, store_B, num_views=self.num_views, where=self.name):
            self._groups.begin(group, each, StoreIndex(store_B[chosen]))

    def row_bytes(self, feature: str | None = None) -> int:
        """Of a packed row of labels, or of one feature. Raises InvalidOption for an unknown feature."""
        return self._groups.layouts[self._group_named(feature)].row_bytes

    def unpack(self, rows: "Tensor", *, counts_B: NDArray[np.int64] | None = None) -> "SoftLabels":
        """Of what `read_packed` gave, on the device of `rows`; `counts_B` is from `counts`. Raises InvalidOption for
        rows of another length."""
        stored = self._unpack(self._group_named(None), rows)
        tensors = {name.rpartition("/")[2]: tensor for name, tensor in stored.items()}
        counts = None if counts_B is None else _tensor(counts_B)
        return self.coding.decode_tensors(tensors, counts_B=counts, origin=self.origin)

    def read_features(self, name: str, samples: ArrayLike, *, view: ArrayLike = 0) -> "Tensor":
        """One feature of B samples, float32 [B, ...], with units [R, ...]. Raises InvalidOption for an unknown name,
        else as `read`."""
        return self.unpack_features(name, _tensor(self.read_packed(samples, view=view, feature=name)))

    def unpack_features(self, name: str, rows: "Tensor") -> "Tensor":
        """Of what `read_packed` gave for this feature, on the device of `rows`. Raises InvalidOption as `unpack`."""
        group = self._group_named(name)
        stored = self._unpack(group, rows)
        # In format 1 a feature is one array, which has its name, whatever that is.
        return decode_values({"values" if name == group else name.rpartition("/")[2]: stored[name] for name in stored})

    def read_head_sizes(self, samples: ArrayLike, *, view: ArrayLike = 0) -> "Tensor | None":
        """How many entries of each sampled row are classes with their own probability, the first ones, and not drawn,
        int64 [R]; None where rows aren't sampled. Raises as `read`."""
        group = self._group_named(None)
        if not self.labels.is_sampled:
            return None
        return self._unpack(group, _tensor(self._take(group, samples, view=view)))[f"{group}/num_head"].long()

    def read_tokens(self, samples: ArrayLike, *, view: int = 0) -> list[NDArray[np.int64]]:
        """What the teacher has read of B samples, in the order asked for: int64 [tokens] of each. Raises as `read`, and
        StoreMismatch for a store that doesn't hold it."""
        read = self.manifest.tokens_read
        if read is None:
            raise StoreMismatch(
                f"{self.name}: doesn't hold what its teacher has read. Train with the data set that it was made from."
            )
        store_B = check_samples(samples, num_samples=self.num_samples, where=self.name)
        group = self.manifest.groups_of(read)[-1]
        rows, units = self._take(group, store_B, view=view), self._groups.units_of(group, view=view)
        assert units is not None, "samples have tokens of their own number"
        (ids,) = self._groups.layouts[group].columns(rows).values()
        return np.split(ids.astype(np.int64), np.cumsum(units.counts(store_B)))[:-1]

    def read_samples(self) -> SampleTable:
        """Keys, hard targets and content hashes of all samples."""
        return self._tables.samples()

    @property
    def has_large_table(self) -> bool:
        """Whether there are so many samples that `read_samples` is to be avoided: it holds some 60 bytes of each."""
        return self.num_samples > LARGE_TABLE

    def read_keys(self) -> Iterator[Keys]:
        """Those of all samples in their order, some at a time where there are very many."""
        return self._tables.keys() if self.has_large_table else iter([Keys(self.read_samples().keys)])

    def read_content_hashes(self) -> Iterator[NDArray[np.uint8]]:
        """Those of all samples in their order, uint8 [.., 16], some at a time where there are very many."""
        if self.has_large_table:
            return self._tables.hashes()
        return iter([ContentHashes(self.read_samples().content_hashes).bytes_N16])

    def content_hashes_of(self, samples: ArrayLike) -> NDArray[np.uint8]:
        """Those of B samples, uint8 [B, 16]. Where there are very many, they are kept in the row cache. Raises as
        `read`."""
        store_B = check_samples(samples, num_samples=self.num_samples, where=self.name)
        if self.has_large_table:
            return self._tables.hashes_of(store_B)
        return ContentHashes(self.read_samples().content_hashes).bytes_N16[store_B]

    def read_samples_at(self, samples: ArrayLike) -> SampleTable:
        """Keys, hard targets and content hashes of a few samples, in the order asked for. Raises as `read`."""
        store_B = check_samples(samples, num_samples=self.num_samples, where=self.name)
        if self.has_large_table:
            return self._tables.samples_at(store_B)
        table = self.read_samples()
        return SampleTable(
            keys=Keys(table.keys).take(store_B),
            targets_N=None if table.targets_N is None else table.targets_N[store_B],
            content_hashes=ContentHashes.from_bytes(ContentHashes(table.content_hashes).bytes_N16[store_B]),
        )

    def read_recipe_indices(self) -> RecipeIndex | None:
        """As `SampleTable.recipe_N`, without the rest of the table."""
        return self._tables.recipe_N() if self.has_large_table else self.read_samples().recipe_N

    def read_pixel_digests(self, view: int) -> PixelDigests:
        """Of the samples of one view whose digest was kept; of none where the store keeps none."""
        return self._tables.pixel_digests(view)

    def read_shard(self, shard: Shard, *, group: str | None = None) -> dict[str, Array]:
        """One shard's arrays of one group (default: the labels) as they are stored, by field name; checked against the
        manifest."""
        group = group or self._group_named(None)
        num_rows = self._groups.rows_in(shard, group=group)
        arrays = empty_arrays(self.manifest.storage.fields_of(group), num_rows=num_rows)
        self._groups.read_into(arrays, shard, group=group)
        return arrays

    def shard_record(self, shard: Shard) -> ShardRecord:
        """What the manifest says about one shard."""
        return self._groups.files.shard_record(shard)

    def _group_named(self, feature: str | None) -> str:
        group = self._named.get(feature)
        if group is not None:
            return group
        if feature is None:
            return self.manifest.group_of(self.labels)  # raises, as there are none
        held = ", ".join(self.feature_names) or "none"
        raise InvalidOption(f"{self.name}: has no feature {feature!r} (it has: {held}). Dump it under `dump.feature`.")

    def _unpack(self, group: str, rows: "Tensor") -> "dict[str, Tensor]":
        import torch  # see `_tensor`

        layout = self._groups.layouts[group]
        if rows.dtype != torch.uint8 or rows.shape[1:] != (layout.row_bytes,):
            raise InvalidOption(
                f"{self.name}: rows are uint8 [B, {layout.row_bytes}], not {rows.dtype} {list(rows.shape)}. "
                f"Unpack what this store's read_packed gave."
            )
        return layout.unpack(rows)

    def __getstate__(self) -> dict[str, object]:
        state = {"path": self.path, "manifest": self.manifest, "digest": self.digest}
        return state | {"cache": self._cache, "name": self.name}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _take(self, group: str, samples: ArrayLike, *, view: ArrayLike) -> Rows:
        store_B = check_samples(samples, num_samples=self.num_samples, where=self.name)
        # One view, as most reads ask, and where each microsecond counts.
        if view.__class__ is int and 0 <= view < self.num_views:
            return self._groups.take(group, view, store_B)
        parts = list(by_view(view, store_B, num_views=self.num_views, where=self.name))
        if len(parts) == 1:
            return self._groups.take(group, parts[0][0], store_B)
        units = self._groups.units_of(group)
        counts_B = np.ones(len(store_B), dtype=np.int64) if units is None else units.counts(store_B)
        rows = np.empty((int(counts_B.sum()), self._groups.layouts[group].row_bytes), dtype=np.uint8)
        for each, chosen in parts:
            places = chosen if units is None else places_of_rows(counts_B, chosen)
            rows[places] = self._groups.take(group, each, StoreIndex(store_B[chosen]))
        return rows


def open_store(where: str | Place, *, cache: CacheOptions | None = None) -> Store:
    """A finished store: a folder on a disk, at a URL, or published: `s3://bucket/labels/NAME@VERSION`.

        store = softlab.open_store("runs/pets.zarr")
        store = softlab.open_store("s3://bucket/labels/pets@latest")

    Only its manifest is read here. Rows are fetched when they are asked for, and decoded once: `cache` tells where they
    are kept, and how many.

    Raises NotAStore, UnfinishedStore, UnsupportedStore; InvalidOption for something that is no address, ObjectMissing
    for a version that isn't published, and what a remote raises. Damage to a shard is found when that shard is first
    read.
    """
    located = locate(where)
    manifest, digest = read_manifest(located.place, version=located.version)
    check_published(digest, located)
    return Store(located.place, manifest, digest, cache=cache or CacheOptions(), name=located.name)


def _tensor(array: NDArray[Any]) -> "Tensor":
    """The same memory. torch is imported when rows are read, so that commands that only copy files start without it."""
    import torch

    return torch.from_numpy(array)


def _origin_of(store: Store) -> Origin:
    statistics, labels = store.statistics, store.labels
    return Origin(
        name=store.name,
        k=store.k,
        num_classes=store.num_classes,
        is_multi_label=store.head == "sigmoid",
        temperatures=store.temperatures,
        captured_mass=statistics.mean_captured_mass,
        num_logits=statistics.rows * store.k,
        clipped_logits=statistics.clipped_logits,
        gap_step=labels.coding.gap_step,
    )
