"""Aligned batches: the inputs of some samples, finished for a model, with their hard targets and soft labels."""

# Shape letters: B rows in a batch, C channels, H height, W width.

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from softlab.errors import InvalidOption, SoftlabError
from softlab.identity import CONTENT_HASH_BYTES
from softlab.labels.soft_labels import SoftLabels
from softlab.loading.alignment import changed_sample, comparable_targets
from softlab.loading.order import Numbers, RowNumbers
from softlab.manifest import ViewsRecord
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
class MixedTargets:
    """The other half of B mixed views."""

    targets_B: Tensor
    """int64, hard targets of the samples they are mixed with; -1 where unknown."""

    weights_B: Tensor
    """float32, the share of each view that is its own sample's; 1 where it is not mixed."""

    def to(self, device: torch.device) -> "MixedTargets":
        return MixedTargets(
            targets_B=self.targets_B.to(device, non_blocking=True),
            weights_B=self.weights_B.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "MixedTargets":
        return MixedTargets(targets_B=self.targets_B.pin_memory(), weights_B=self.weights_B.pin_memory())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """B views, each of one sample of a source."""

    numbers_B: Tensor
    """int64, sample numbers in the source."""

    views_B: Tensor
    """int64, which view of each sample."""

    images_BCHW: Tensor
    """float32, finished for the model."""

    content_hashes: tuple[bytes, ...]
    pixel_digests: tuple[int, ...] = ()
    """Of those views whose digest a store keeps."""

    targets_B: Tensor | None = None
    """int64; -1 where unknown."""

    mixed: MixedTargets | None = None
    """Where views are mixed and targets known."""

    labels: SoftLabels | None = None
    others: tuple[SoftLabels, ...] = ()
    """Of further teachers, in the order of their stores."""

    features: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the teachers, float32 [B, ...] by name; those that were asked for."""

    def __len__(self) -> int:
        return len(self.numbers_B)

    def to(self, device: torch.device, *, channels_last: bool = False) -> "Batch":
        """Inputs, targets and labels on a device; copies from pinned memory don't wait."""
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        return replace(
            self,
            images_BCHW=self.images_BCHW.to(device, non_blocking=True, memory_format=memory_format),
            targets_B=None if self.targets_B is None else self.targets_B.to(device, non_blocking=True),
            mixed=None if self.mixed is None else self.mixed.to(device),
            labels=None if self.labels is None else self.labels.to(device, non_blocking=True),
            others=tuple(labels.to(device, non_blocking=True) for labels in self.others),
            features={name: feature.to(device, non_blocking=True) for name, feature in self.features.items()},
        )

    def pin_memory(self) -> "Batch":
        """In page-locked memory; torch's loaders call this by its name."""
        return replace(
            self,
            images_BCHW=self.images_BCHW.pin_memory(),
            targets_B=None if self.targets_B is None else self.targets_B.pin_memory(),
            mixed=None if self.mixed is None else self.mixed.pin_memory(),
            labels=None if self.labels is None else self.labels.pin_memory(),
            others=tuple(labels.pin_memory() for labels in self.others),
            features={name: feature.pin_memory() for name, feature in self.features.items()},
        )


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
    def targets_N(self) -> NDArray[np.int64] | None:
        """The source's hard targets, unless they count other classes than the store's labels and not new ones too."""
        if self.store is None or self.new_classes:
            return self.source.targets_N
        return comparable_targets(self.source, num_classes=self.store.num_classes)

    def in_store(self, samples_B: NDArray[np.int64]) -> NDArray[np.int64]:
        """The store's numbers of some samples; their own where there is no store."""
        return samples_B if self.store_numbers_N is None else self.store_numbers_N[samples_B]


@dataclass(slots=True)
class _Batches(Dataset[Batch | SoftlabError]):
    """Makes the batch of some rows; an error is returned, as a worker would wrap what it raises."""

    aligned: Aligned
    max_decoded_bytes: int
    _decoded: dict[int, Sample] = field(default_factory=dict)
    _decoded_bytes: int = 0
    _expected_hashes: NDArray[np.void] | None = None

    def __post_init__(self) -> None:
        store, numbers_N = self.aligned.store, self.aligned.store_numbers_N
        if store is not None and numbers_N is not None:
            hashes = b"".join(store.read_samples().content_hashes)
            self._expected_hashes = np.frombuffer(hashes, dtype=f"V{CONTENT_HASH_BYTES}")[numbers_N]

    def __getitem__(self, rows: RowNumbers) -> Batch | SoftlabError:
        try:
            return self._make(rows)
        except SoftlabError as error:
            return error

    def _make(self, rows: RowNumbers) -> Batch:
        aligned, numbers_B = self.aligned, self.aligned.in_store(rows.samples_B)
        samples = [self._read(number) for number in rows.samples_B.tolist()]
        views = self._replay(numbers_B, rows.views_B, samples)
        targets_N = aligned.targets_N
        stored_B = rows.views_B
        if aligned.store is not None:
            # Views without end, where other views than the store's were allowed, meet the store's in turn.
            stored_B = _one_or_each(rows.views_B % aligned.store.num_views)
        return Batch(
            numbers_B=torch.from_numpy(rows.samples_B),
            views_B=torch.from_numpy(rows.views_B),
            images_BCHW=finish([view.image_CHW for view in views], aligned.finishing),
            content_hashes=tuple(sample.content_hash for sample in samples),
            pixel_digests=_digests(numbers_B, rows.views_B, views, every=aligned.digest_every),
            targets_B=None if targets_N is None else torch.from_numpy(targets_N[rows.samples_B]),
            mixed=None if targets_N is None or not aligned.replay.mixes else _mixed(views, targets_N),
            labels=None if aligned.store is None else aligned.store.read(numbers_B, view=stored_B),
            others=tuple(store.read(numbers_B, view=stored_B) for store in aligned.others),
            features={
                name: store.read_features(name, numbers_B, view=stored_B) for name, store in aligned.features.items()
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


def _one_or_each(views_B: Numbers) -> Numbers:
    """A single number where all rows are of one view, which is read in one piece."""
    is_one = len(views_B) > 0 and bool((views_B == views_B[0]).all())
    return views_B[0] if is_one else views_B


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
    """Loads batches of one aligned source, prefetched by workers, in pinned memory where the device is CUDA."""

    def __init__(
        self, aligned: Aligned, *, device: torch.device, options: LoaderOptions, keep_decoded: bool = False
    ) -> None:
        """`keep_decoded` keeps decoded images, up to 1 GiB, for when they are asked for again."""
        self.aligned, self.device = aligned, device
        self._workers = choose_workers(options.workers, device)
        self._batches = _Batches(aligned, DECODED_BYTES // max(self._workers, 1) if keep_decoded else 0)

    def load(self, order: Iterable[RowNumbers]) -> Iterator[Batch]:
        """The batches of the rows in `order`. Raises what reading a sample or a row raises."""
        loader = DataLoader(
            self._batches,
            sampler=order,
            batch_size=None,
            num_workers=self._workers,
            generator=torch.Generator(),  # for the workers' seeds, which else come from the global random state
            pin_memory=self.device.type == "cuda",
        )
        for batch in loader:
            if isinstance(batch, SoftlabError):
                raise batch
            yield batch


def choose_workers(workers: int | None, device: torch.device) -> int:
    """Decoding processes: beside a model on the CPU they would only take its cores."""
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else min(8, torch.multiprocessing.cpu_count() - 1)
