"""Load aligned batches: decode images, replay views, gather what the stores say about them."""

# Shape letters: B rows in a batch.

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from softlab.errors import InvalidOption, SoftlabError
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.loading.alignment import changed_sample, comparable_targets
from softlab.loading.batch import Batch, MixedTargets
from softlab.loading.copying import copied_beside
from softlab.loading.order import Numbers, RowNumbers
from softlab.manifest import ViewsRecord
from softlab.ranks import num_local_ranks
from softlab.sources.source import Sample, Source
from softlab.store.pixel_digests import is_digested
from softlab.store.reader import Store
from softlab.views.finishing import Finishing, finish
from softlab.views.replay import Replay, View, pixel_digest

AS_THEY_ARE = Replay(ViewsRecord(num_views=1), num_samples=1)
"""Nothing random: every view is the image itself."""

DECODED_BYTES = 1 << 30
"""Of decoded images that are kept for the next epoch, in all workers together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderOptions:
    """How batches are prepared beside the model's own work."""

    workers: int | None = None
    """Processes that decode images; default: 0 beside a CPU model, else up to 8."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise InvalidOption(f"workers = {self.workers}: expected 0 or more.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Aligned:
    """A source, its views finished for a model, and where there is one the store that was made from it."""

    source: Source
    finishing: Finishing
    replay: Replay = AS_THEY_ARE
    """The random part of a view. It counts samples as the store does, without a store as the source does."""

    digest_every: int = 0
    """Of one view in so many the digest of its pixels is taken; of none for 0."""
    store: Store | None = None
    store_numbers_N: NDArray[np.int64] | None = None
    """For each sample of the source its sample in the store, from `align`."""

    others: tuple[Store, ...] = ()
    """Of further teachers, over the same samples and views; see `check_same_rows`."""

    new_classes: bool = False
    """Whether hard targets go on counting behind the store's classes."""

    features: Mapping[str, Store] = field(default_factory=dict)
    """Features to be read, each from the store that holds it."""

    @property
    def stores(self) -> tuple[Store, ...]:
        """Of all teachers."""
        return () if self.store is None else (self.store, *self.others)

    @property
    def targets_N(self) -> NDArray[np.int64] | None:
        """The source's hard targets, unless they count other classes than the store's labels and not new ones too."""
        if self.store is None or self.new_classes:
            return self.source.targets_N
        return comparable_targets(self.source, num_classes=self.store.num_classes)

    def in_store(self, samples_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """The store's numbers of some samples; their own where there is no store."""
        return samples_B if self.store_numbers_N is None else self.store_numbers_N[samples_B]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Prepared:
    """What a worker hands over: a batch without its soft labels and features, and their rows as they are stored, which
    is a fraction of their bytes once unpacked."""

    batch: Batch
    label_rows: tuple[Tensor, ...]
    """uint8 [B, row bytes], one a store."""

    feature_rows: Mapping[str, Tensor]

    def pin_memory(self) -> "_Prepared":
        """In page-locked memory; torch's loaders call this by its name."""
        batch = self.batch
        return _Prepared(
            batch=replace(
                batch,
                images_BCHW=batch.images_BCHW.pin_memory(),
                targets_B=None if batch.targets_B is None else batch.targets_B.pin_memory(),
                mixed=None if batch.mixed is None else batch.mixed.pin_memory(),
            ),
            label_rows=tuple(rows.pin_memory() for rows in self.label_rows),
            feature_rows={name: rows.pin_memory() for name, rows in self.feature_rows.items()},
        )

    def unpacked(self, aligned: Aligned, device: torch.device) -> Batch:
        """The whole batch on a device; copies from pinned memory don't wait."""
        label_rows = [rows.to(device, non_blocking=True) for rows in self.label_rows]
        labels = [store.unpack(rows) for store, rows in zip(aligned.stores, label_rows, strict=True)]
        features = {
            name: aligned.features[name].unpack_features(name, rows.to(device, non_blocking=True))
            for name, rows in self.feature_rows.items()
        }
        batch = self.batch.to(device)
        if not labels and not features:
            return batch
        return replace(batch, labels=labels[0] if labels else None, others=tuple(labels[1:]), features=features)


@dataclass(slots=True)
class _Batches(Dataset[_Prepared | SoftlabError]):
    """Makes the batch of some rows; an error is returned, as a worker would wrap what it raises."""

    aligned: Aligned
    max_decoded_bytes: int
    _decoded: dict[int, Sample] = field(default_factory=dict)
    _decoded_bytes: int = 0
    _expected_hashes: NDArray[np.void] | None = None

    def __post_init__(self) -> None:
        store, numbers_N = self.aligned.store, self.aligned.store_numbers_N
        if store is not None and numbers_N is not None:
            hashes_N16 = ContentHashes(store.read_samples().content_hashes).bytes_N16
            self._expected_hashes = hashes_N16.view(f"V{CONTENT_HASH_BYTES}")[:, 0][numbers_N]

    def __getitem__(self, rows: RowNumbers) -> _Prepared | SoftlabError:
        try:
            return self._make(rows)
        except SoftlabError as error:
            return error

    def _make(self, rows: RowNumbers) -> _Prepared:
        aligned, numbers_B = self.aligned, self.aligned.in_store(rows.samples_B)
        samples = [self._read(number) for number in rows.samples_B.tolist()]
        views = self._replay(numbers_B, rows.views_B, samples)
        targets_N = aligned.targets_N
        stored_B: int | Numbers = rows.views_B
        if aligned.store is not None:
            # Views without end, where other views than the store's were allowed, meet the store's in turn.
            stored_B = _one_or_each(rows.views_B % aligned.store.num_views)
        batch = Batch(
            numbers_B=torch.from_numpy(rows.samples_B),
            views_B=torch.from_numpy(rows.views_B),
            images_BCHW=finish([view.image_CHW for view in views], aligned.finishing),
            content_hashes=tuple(sample.content_hash for sample in samples),
            pixel_digests=_digests(numbers_B, rows.views_B, views, every=aligned.digest_every),
            targets_B=None if targets_N is None else torch.from_numpy(targets_N[rows.samples_B]),
            mixed=None if targets_N is None or not aligned.replay.mixes else _mixed(views, targets_N),
        )
        return _Prepared(
            batch=batch,
            label_rows=tuple(torch.from_numpy(store.read_packed(numbers_B, view=stored_B)) for store in aligned.stores),
            feature_rows={
                name: torch.from_numpy(store.read_packed(numbers_B, view=stored_B, feature=name))
                for name, store in aligned.features.items()
            },
        )

    def _replay(self, numbers_B: Numbers, views_B: Numbers, samples: list[Sample]) -> list[View]:
        """What a view is mixed with is read beside it; a source that lacks samples of the store is never mixed, and
        otherwise both number their samples alike."""
        held = {number: sample.image_CHW for number, sample in zip(numbers_B.tolist(), samples, strict=True)}

        def read(number: int) -> Tensor:
            return held[number] if number in held else self._read(number).image_CHW

        return self.aligned.replay.views(numbers_B.tolist(), views_B.tolist(), read)

    def _read(self, number: int) -> Sample:
        sample = self._decoded.get(number)
        if sample is None:
            sample = self._read_checked(number)
            if self._decoded_bytes < self.max_decoded_bytes:
                self._decoded[number] = sample
                self._decoded_bytes += sample.image_CHW.nbytes
        return sample

    def _read_checked(self, number: int) -> Sample:
        """A sample that is not what the teacher saw never meets a label."""
        source, store, expected = self.aligned.source, self.aligned.store, self._expected_hashes
        sample = source.read(number)
        if store is not None and expected is not None and sample.content_hash != expected[number].tobytes():
            raise changed_sample(source, store, number)
        return sample


def _one_or_each(views_B: Numbers) -> int | Numbers:
    """A single number where all rows are of one view, which is read in one piece."""
    is_one = len(views_B) > 0 and bool((views_B == views_B[0]).all())
    return int(views_B[0]) if is_one else views_B


def _digests(numbers_B: Numbers, views_B: Numbers, views: list[View], *, every: int) -> tuple[int, ...]:
    rows = zip(numbers_B.tolist(), views_B.tolist(), views, strict=True)
    return tuple(
        pixel_digest(seen.image_CHW) for number, view, seen in rows if is_digested(number, view=view, every=every)
    )


def _mixed(views: list[View], targets_N: NDArray[np.int64]) -> MixedTargets:
    return MixedTargets(
        targets_B=torch.from_numpy(targets_N[[view.partner for view in views]]),
        weights_B=torch.tensor([view.weight for view in views]),
    )


class BatchLoader:
    """Loads batches of one aligned source onto a device, prefetched by workers, and for CUDA copied beside its work."""

    def __init__(
        self, aligned: Aligned, *, device: torch.device, options: LoaderOptions, keep_decoded: bool = False
    ) -> None:
        """`keep_decoded` keeps decoded images, up to 1 GiB, for when they are asked for again."""
        self.aligned, self.device = aligned, device
        self._workers = choose_workers(options.workers, device)
        self._batches = _Batches(aligned, DECODED_BYTES // max(self._workers, 1) if keep_decoded else 0)

    def load(self, order: Iterable[RowNumbers]) -> Iterator[Batch]:
        """The batches of the rows in `order`, on the device. Raises what reading a sample or a row raises."""
        loader = DataLoader(
            self._batches,
            sampler=order,
            batch_size=None,
            num_workers=self._workers,
            generator=torch.Generator(),  # for the workers' seeds, which else come from the global random state
            pin_memory=self.device.type == "cuda",
        )
        batches = (self._unpacked(prepared) for prepared in loader)
        return copied_beside(batches, self.device) if self.device.type == "cuda" else batches

    def _unpacked(self, prepared: _Prepared | SoftlabError) -> Batch:
        if isinstance(prepared, SoftlabError):
            raise prepared
        return prepared.unpacked(self.aligned, self.device)


def choose_workers(workers: int | None, device: torch.device) -> int:
    """Decoding processes: beside a model on the CPU they would only take its cores, and processes that share a machine
    share its cores."""
    if workers is not None:
        return workers
    cores = torch.multiprocessing.cpu_count() // num_local_ranks()
    return 0 if device.type == "cpu" else min(8, max(cores - 1, 1))
