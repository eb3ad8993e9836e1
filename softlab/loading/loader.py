"""Load aligned batches: decode samples, replay views, collate inputs, gather what the stores hold about them."""

# Shape letters: B rows in a batch.

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain, islice, tee
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from softlab.errors import InvalidOption, SoftlabError, SourceError, check_option
from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.indices import SourceIndex, StoreIndex
from softlab.loading.aligned import Aligned
from softlab.loading.batch import Batch
from softlab.loading.copying import copied_beside
from softlab.loading.decoded import DECODED_BYTES, Decoded, DecodedSample
from softlab.loading.head_rows import HeadRows
from softlab.loading.kept_images import KeptImages, NewImages, keep_images
from softlab.loading.mixed_targets import MixedTargets
from softlab.loading.order import RowIndices, ViewNumbers
from softlab.loading.own_rows import find_own_rows
from softlab.loading.sample_check import changed_sample
from softlab.loading.shared_memory import check_shared_memory
from softlab.loading.stored import read_heads, read_stored
from softlab.loading.workers import Workers, choose_workers
from softlab.modalities.answers import AnsweredText
from softlab.modalities.inputs import Collated
from softlab.modalities.modality import InputOptions, Modality, modality_of
from softlab.modalities.views import Example, View
from softlab.sources.answers import Answers
from softlab.sources.label_sequences import LabelSequences
from softlab.sources.source import Sample, read_samples
from softlab.store.pixel_digests import is_digested


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderOptions:
    """How batches are prepared beside the model's own work."""

    workers: int | None = None
    """Processes that decode samples; default: 0 beside a CPU model, else up to 8. Each loader has its own."""

    def __post_init__(self) -> None:
        check_option(self.workers is None or self.workers >= 0, "device.workers", self.workers, "0 or more")


@dataclass(slots=True)
class Batches(Dataset[Batch | SoftlabError]):
    """Makes the batch of some rows, without what stores hold. To a loader an error is returned, as a worker would wrap
    what it raises."""

    aligned: Aligned
    decoded: Decoded
    _expected_hashes: NDArray[np.void] | None = None
    _sequences: LabelSequences | None = None
    _answers: Answers | None = None
    _kept: dict[str, KeptImages] = field(default_factory=dict)
    """On disk, by the modality's name."""

    def __post_init__(self) -> None:
        kept = {each.name: keep_images(self.aligned.cache, each) for each in self.aligned.modalities}
        self._kept = {name: images for name, images in kept.items() if images is not None}
        self._sequences, self._answers = self.aligned.label_sequences, self.aligned.answers
        store, store_N = self.aligned.store, self.aligned.store_N
        if store is not None and store_N is not None and not store.has_large_table:
            hashes_N16 = ContentHashes(store.read_samples().content_hashes).bytes_N16
            self._expected_hashes = hashes_N16.view(f"V{CONTENT_HASH_BYTES}")[:, 0][store_N]

    def __getitem__(self, rows: RowIndices) -> Batch | SoftlabError:
        try:
            return self.make(rows)
        except SoftlabError as error:
            return error

    def make(self, rows: RowIndices) -> Batch:
        """Raises UnreadableSample, StoreMismatch for a sample that is not what the teacher saw, and what the modality
        raises."""
        aligned, store_B = self.aligned, self.aligned.to_store(rows.source_B)
        samples = self._read(rows.source_B.tolist())
        views = {each.name: self._replay(each, store_B, rows.views_B, samples) for each in aligned.modalities}
        first, mixes = next(iter(aligned.modalities), None), aligned.replay.mixes
        targets_N, sets_NC = aligned.targets_N, aligned.label_sets_NC
        inputs = tuple(self._collate(options, views[options.modality], rows) for options in aligned.inputs)
        targets_B = None if targets_N is None else torch.from_numpy(targets_N[rows.source_B])
        answered: list[AnsweredText] = []
        if self._answers is not None:
            answered, targets_B = self._find_answers(self._answers, views[aligned.inputs[0].modality], rows)
        return Batch(
            source_B=torch.from_numpy(rows.source_B),
            views_B=torch.from_numpy(rows.views_B),
            inputs=inputs,
            own=find_own_rows(inputs, self._sequences, rows.source_B.tolist(), keys=aligned.source.keys),
            content_hashes=tuple(sample.content_hash for sample in samples),
            view_digests=() if first is None else self._digests(first, store_B, rows.views_B, views[first.name]),
            targets_B=targets_B,
            answers=tuple(answered),
            label_sets_BC=None if sets_NC is None else torch.from_numpy(sets_NC[rows.source_B]),
            mixed=None if first is None or targets_N is None or not mixes else _mixed(views[first.name], targets_N),
            heads={
                name: self._head_rows(head, rows, views=None if first is None else views[first.name])
                for name, head in aligned.heads.items()
            },
        )

    def _head_rows(self, head: Aligned, rows: RowIndices, *, views: list[View] | None) -> HeadRows:
        """The hard targets of one head."""
        targets_N = head.targets_N
        if targets_N is None:
            return HeadRows()
        mixed = None if views is None or not head.replay.mixes else _mixed(views, targets_N)
        return HeadRows(targets_B=torch.from_numpy(targets_N[rows.source_B]), mixed=mixed)

    def _find_answers(
        self, answers: Answers, views: list[View], rows: RowIndices
    ) -> tuple[list[AnsweredText], torch.Tensor]:
        """Texts with what is right in them, and the class of each output of each sample, int64 [R]. All inputs have the
        same classes, so that the first one tells them. Raises SourceError for an answer that isn't in its text."""
        options, found = self.aligned.inputs[0], []
        find: Any = modality_of(options)
        for source_index, view in zip(rows.source_B.tolist(), views, strict=True):
            try:
                found.append(find.find_answer(view.example, options, answers.of(source_index)))
            except ValueError as error:
                raise SourceError(
                    f"{self.aligned.source.name}: sample {self.aligned.source.keys[source_index]!r}: {error}. Correct "
                    f"its answer, or leave it out."
                ) from error
        return [told for told, _ in found], torch.tensor([target for _, targets in found for target in targets])

    def _collate(self, options: InputOptions, views: list[View], rows: RowIndices) -> Collated:
        """Raises InvalidOption naming a sample that doesn't fit to the first one, where the modality can't make one
        input of them."""
        modality, examples = modality_of(options), [view.example for view in views]
        try:
            collated: Collated = modality.collate(examples, options)
        except InvalidOption as error:
            keys = [self.aligned.source.keys[index] for index in rows.source_B.tolist()]
            for key, example in zip(keys[1:], examples[1:], strict=True):
                if not _fit(modality, [examples[0], example], options):
                    raise InvalidOption(f"samples {keys[0]!r} and {key!r}: {error}") from error
            raise
        return collated

    def _digests(
        self, modality: Modality, store_B: StoreIndex, views_B: ViewNumbers, views: list[View]
    ) -> tuple[int, ...]:
        rows = self.aligned.replay.in_recipe(store_B.tolist(), views_B.tolist())
        every = self.aligned.digest_every
        return tuple(
            modality.digest(seen.example)
            for (recipe_index, view), seen in zip(rows, views, strict=True)
            if is_digested(recipe_index, view=view, every=every)
        )

    def _replay(
        self, modality: Modality, store_B: StoreIndex, views_B: ViewNumbers, samples: list[DecodedSample]
    ) -> list[View]:
        """The views of some samples. A view that is mixed (MixUp, CutMix) needs a second one, which is read here.

        The replay asks for that one by its store index. Views are mixed only where source and store hold the same
        samples in the same order (`store_replay` refuses all else), so its source index is the same number.
        """
        held = dict(zip(store_B.tolist(), samples, strict=True))

        def read(store_index: int) -> Example:
            sample = held[store_index] if store_index in held else self._read([store_index])[0]
            return sample.examples[modality.name]

        return self.aligned.replay.views(store_B.tolist(), views_B.tolist(), read)

    def _read(self, source_B: list[int]) -> list[DecodedSample]:
        held = {index: self.decoded.get(index) for index in source_B}
        missing = [index for index, sample in held.items() if sample is None]
        expected_B, new = self._expected(missing), NewImages(self._kept)
        for place, (index, raw) in enumerate(zip(missing, read_samples(self.aligned.source, missing), strict=True)):
            expected = None if expected_B is None else expected_B[place].tobytes()
            held[index] = decoded = self._checked(index, raw, expected, new)
            self.decoded.keep(index, decoded)
        new.keep()
        return [sample for index in source_B if (sample := held[index]) is not None]

    def _expected(self, source_B: list[int]) -> NDArray[np.void] | None:
        """The content hashes that samples must have; of a store with very many, what is read of it for these alone."""
        store = self.aligned.store
        if store is None or self.aligned.store_N is None or not source_B:
            return None
        if self._expected_hashes is not None:
            return self._expected_hashes[source_B]
        hashes_B16 = store.content_hashes_of(self.aligned.to_store(SourceIndex(np.array(source_B))))
        return hashes_B16.view(f"V{CONTENT_HASH_BYTES}")[:, 0]

    def _checked(self, source_index: int, sample: Sample, expected: bytes | None, new: NewImages) -> DecodedSample:
        """A sample that is not what the teacher saw never meets a label."""
        source, store = self.aligned.source, self.aligned.store
        if store is not None and expected is not None and sample.content_hash != expected:
            raise changed_sample(source, source_index, where=store.name, next_step=self.aligned.other_content)
        return DecodedSample(
            content_hash=sample.content_hash,
            examples={each.name: new.decode(sample, each) for each in self.aligned.modalities},
        )


def _fit(modality: Modality, examples: list[Example], options: InputOptions) -> bool:
    try:
        modality.collate(examples, options)
    except InvalidOption:
        return False
    return True


def _mixed(views: list[View], targets_N: NDArray[np.int64]) -> MixedTargets:
    return MixedTargets(
        targets_B=torch.from_numpy(targets_N[[view.partner for view in views]]),
        weights_B=torch.tensor([view.weight for view in views]),
    )


class BatchLoader:
    """Loads batches of one aligned source onto a device, prefetched by workers, and for CUDA copied beside its work."""

    def __init__(
        self,
        aligned: Aligned,
        *,
        device: torch.device,
        options: LoaderOptions,
        keep_decoded: bool = False,
        decoded: Decoded | None = None,
        keep_workers: bool = False,
    ) -> None:
        """`keep_decoded` keeps decoded samples, up to 1 GiB, for when they are asked for again; `decoded` are those
        that loaders of this source share. With `keep_workers` those of an order that came to its end are there for the
        next one, with all that they have decoded; somebody has to `close` the loader then."""
        self.aligned, self.device = aligned, device
        self._num_workers = choose_workers(options.workers, device)
        most = DECODED_BYTES // max(self._num_workers, 1) if keep_decoded else 0
        self._batches = Batches(aligned, Decoded(most) if decoded is None else decoded)
        self._keeps, self._waiting = keep_workers, list[Workers]()

    def load(self, order: Iterable[RowIndices], *, skip: int = 0) -> Generator[Batch, None, None]:
        """The batches of the rows in `order` but the first `skip`, on the device. Raises what reading a sample or a row
        raises; see `read_stored` for why one may begin an order early. Workers end with it, unless they are kept, and
        when it is closed."""
        return self._load(order, skip=skip, num_workers=self._num_workers)

    def load_one(self, rows: RowIndices) -> Batch:
        """The batch of these rows alone, made without workers, which would take longer to start. Raises as `load`."""
        (batch,) = self._load([rows], skip=0, num_workers=0)
        return batch

    def close(self) -> None:
        """End the workers that are kept; from now on none are."""
        self._keeps = False
        while self._waiting:
            self._waiting.pop().close()

    def _load(self, order: Iterable[RowIndices], *, skip: int, num_workers: int) -> Generator[Batch, None, None]:
        are_taught = any(head.stores for head in self.aligned.heads.values())
        order, same_order, *heads_order = tee(order, 3 if are_taught else 2)
        with closing(self._load_inputs(islice(order, skip, None), num_workers=num_workers)) as inputs:
            batches: Iterator[Batch] = inputs
            if self.aligned.stores:
                stored = read_stored(self.aligned, same_order, self.device, skip=skip)
                keys = self.aligned.source.keys
                batches = (batch.with_stored(each, keys=keys) for batch, each in zip(inputs, stored, strict=True))
            if are_taught:
                of_heads = read_heads(self.aligned, heads_order[0], self.device, skip=skip)
                batches = (batch.with_stored_heads(each) for batch, each in zip(batches, of_heads, strict=True))
            yield from copied_beside(batches, self.device) if self.device.type == "cuda" else batches

    def _load_inputs(self, order: Iterable[RowIndices], *, num_workers: int) -> Generator[Batch, None, None]:
        """On the device, and all that isn't from a store. Closing it ends the workers. Raises InvalidOption where they
        have too little shared memory."""
        if num_workers:
            order = self._with_room(iter(order))
        pin_memory, is_waiting = self.device.type == "cuda", num_workers and self._waiting
        workers = self._waiting.pop() if is_waiting else Workers(self._batches, num_workers, pin_memory=pin_memory)
        is_complete = False
        try:
            for batch in workers.make(order):
                if isinstance(batch, SoftlabError):
                    raise batch
                yield batch.to(self.device)
            is_complete = True
        finally:
            if is_complete and num_workers and self._keeps and not self._waiting:
                self._waiting.append(workers)
            else:
                workers.close()

    def _with_room(self, order: Iterator[RowIndices]) -> Iterator[RowIndices]:
        """The same order, once its first batch is known to fit into shared memory often enough. One sample tells how
        large that is."""
        for first in order:
            one = self._batches.make(RowIndices(SourceIndex(first.source_B[:1]), first.views_B[:1]))
            sample_bytes = sum(tensor.nbytes for tensor in one.device_tensors())
            check_shared_memory(sample_bytes * len(first), workers=self._num_workers)
            return chain([first], order)
        return order
