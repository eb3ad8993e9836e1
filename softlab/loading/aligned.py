"""A source beside the stores that were made from it: which row belongs to which sample."""

# Shape letters: N samples of the source, B rows in a batch.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from softlab.errors import InvalidOption
from softlab.indices import SourceIndex, StoreIndex
from softlab.labels.chance import LabelClasses
from softlab.loading import sample_check, view_check
from softlab.loading.label_check import stored_classes_of_labels
from softlab.loading.sample_check import VerifyInputs, align, comparable_targets, with_stored_classes
from softlab.loading.view_check import check_views, store_replay
from softlab.manifest import InputRecord, ViewsRecord
from softlab.modalities.modality import (
    InputOptions,
    Modality,
    decoding_for,
    modality_of,
    outputs_of_input,
    tells_targets,
    tells_units,
)
from softlab.modalities.views import AsTheyAre, Replay, describe_views
from softlab.sources.answers import Answers, answers_of
from softlab.sources.label_sequences import LabelSequences, label_sequences
from softlab.sources.label_sets import LabelSets, label_sets, with_more_classes
from softlab.sources.source import Source, hard_targets
from softlab.store.cache import CacheOptions
from softlab.store.reader import Store

AS_THEY_ARE = AsTheyAre()


@dataclass(frozen=True, kw_only=True, eq=False)
class Aligned:
    """A source, the inputs that models want of it, and where there is one the store that was made from it."""

    source: Source
    inputs: tuple[InputOptions, ...]
    """Each once; a model takes its own by its place here."""

    replay: Replay = AS_THEY_ARE
    """The random part of a view. It counts samples as the store does, without a store as the source does. Where it
    isn't `AS_THEY_ARE`, it is of the modality of all inputs."""

    digest_every: int = 0
    """Of one view in so many the digest is taken; of none for 0."""

    store: Store | None = None
    store_N: StoreIndex | None = None
    """For each sample of the source its index in the store, from `align`."""

    others: tuple[Store, ...] = ()
    """Of further teachers, over the same samples and views; see `check_same_rows`."""

    num_classes: int | None = None
    """Of the model whose output hard targets are compared with, where there is no store; None: they are its own."""

    labels: LabelClasses = "auto"
    """Of which classes hard targets are: the same as those of the store or model, or other ones. `auto` where nothing
    but names and numbers has told it."""

    new_classes: bool = False
    """Whether hard targets go on counting behind the store's classes."""

    features: Mapping[str, Store] = field(default_factory=dict)
    """Features to be read, each from the store that holds it."""

    values_output: str | None = None
    """Of models that give vectors, scores or maps, and no logits over classes: which output of kind `values` theirs is;
    it is among the features where a store holds it."""

    heads: Mapping[str, "Aligned"] = field(default_factory=dict)
    """Of models with several heads, what each of them is compared with, by its name: the same samples and views, with
    the hard targets and the store of this head. The source out here has then no hard targets."""

    seen: tuple[InputRecord, ...] = ()
    """How the samples were decoded for the teacher whose labels they meet; without one, as the inputs say."""

    cache: CacheOptions | None = None
    """Where decoded images are kept on this machine; None where none are."""

    other_content: str = sample_check.OTHER_CONTENT
    """The next step that is named for a sample that has changed."""

    @property
    def stores(self) -> tuple[Store, ...]:
        """Of all teachers."""
        return () if self.store is None else (self.store, *self.others)

    @property
    def labelled(self) -> tuple[Store, ...]:
        """Of the teachers that gave soft labels, not values alone; none where models give values and learn these, or
        have heads, each with a teacher of its own."""
        has_others = self.values_output is not None or bool(self.heads)
        return () if has_others else tuple(store for store in self.stores if store.has_labels)

    @cached_property
    def targets_N(self) -> NDArray[np.int64] | None:
        """The source's hard targets, unless they count other classes than the store's labels, or the model, and not new
        ones too. Beside models of values they are compared with no classes. None where units tell their own."""
        if any(map(tells_targets, self.inputs)):
            return None
        has_labels = self.store is not None and self.store.has_labels
        num_classes = self.store.num_classes if self.store is not None and has_labels else self.num_classes
        if num_classes is None or self.new_classes or self.values_output is not None:
            return hard_targets(self.source)
        if self.labels == "other":
            return None
        return comparable_targets(self.source, num_classes=num_classes)

    @cached_property
    def label_sets_NC(self) -> LabelSets | None:
        """The source's label sets, over the classes of the store's labels, or the model; None where they are over
        others."""
        sets_NC, has_labels = label_sets(self.source), self.store is not None and self.store.has_labels
        num_classes = self.store.num_classes if self.store is not None and has_labels else self.num_classes
        if sets_NC is None or num_classes is None or sets_NC.shape[1] == num_classes:
            return sets_NC
        if self.source.class_names is not None or sets_NC.shape[1] > num_classes:
            return None
        return with_more_classes(sets_NC, num_classes=num_classes)

    @cached_property
    def label_sequences(self) -> LabelSequences | None:
        """The source's hard targets of units, over the classes of the store's labels, or the model; None where they
        count others, where no model has a row for each unit, or there are none."""
        if not any(map(tells_units, self.inputs)):
            return None
        sequences, has_labels = label_sequences(self.source), self.store is not None and self.store.has_labels
        num_classes = self.store.num_classes if self.store is not None and has_labels else self.num_classes
        if sequences is None or num_classes is None:
            return sequences
        names, highest = self.source.class_names, int(sequences.targets_U.max(initial=-1))
        is_over_others = highest >= num_classes or (names is not None and len(names) != num_classes)
        return None if is_over_others or self.labels == "other" or self.new_classes else sequences

    def known_targets(self, *, of_first: int | None = None) -> NDArray[np.int64] | None:
        """Hard targets of all rows, -1 where unknown: one of each of the samples, or of their units; None where there
        are none."""
        sequences = self.label_sequences
        if sequences is None:
            return None if self.targets_N is None else self.targets_N[:of_first]
        return sequences.targets_U[: sequences.first_N1[len(sequences) if of_first is None else of_first]]

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """What models give together, each a row of its sample; see `outputs_of_input`."""
        return outputs_of_input(self.inputs[0]) if self.inputs else ()

    @cached_property
    def answers(self) -> Answers | None:
        """Right ones, where models seek them and the source tells them."""
        return answers_of(self.source) if self.outputs else None

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """Of the inputs, each once, as it decodes here."""
        found = {options.modality: modality_of(options) for options in self.inputs}
        return tuple(decoding_for(each, self.inputs, self.seen) for each in found.values())

    def to_store(self, source_B: SourceIndex) -> StoreIndex:
        """Where some samples of the source stand in the store; without a store both count alike."""
        return StoreIndex(source_B if self.store_N is None else self.store_N[source_B])

    @property
    def num_stored_views(self) -> int:
        return 1 if self.store is None else self.store.num_views


def beside_store(
    source: Source,
    store: Store,
    inputs: tuple[InputOptions, ...],
    *,
    subset: bool = False,
    verify: VerifyInputs = "some",
    others: tuple[Store, ...] = (),
    replay: Replay | None = None,
    check_pixels: bool = True,
    labels: LabelClasses = "auto",
    new_classes: bool = False,
    next_step: str = sample_check.IN_TRAINING,
    next_step_of_views: str = view_check.IN_TRAINING,
) -> Aligned:
    """A source and the store that was made from it, with the store's views, unless `replay` makes others. `others` are
    those of further teachers, over the same samples and views. Hard targets count classes as the store does, and with
    `new_classes` on behind them. Raises StoreMismatch as `align`, `with_stored_classes` and `check_views`, with these
    next steps."""
    source = with_stored_classes(source, store, new_classes=new_classes)
    store_N = align(source, store, subset=subset, verify=verify, next_step=next_step)
    return with_views(
        source,
        store,
        store_N,
        inputs,
        verify=verify,
        others=others,
        replay=replay,
        check_pixels=check_pixels,
        labels=labels,
        new_classes=new_classes,
        next_step_of_views=next_step_of_views,
    )


def with_views(
    source: Source,
    store: Store,
    store_N: StoreIndex,
    inputs: tuple[InputOptions, ...],
    *,
    verify: VerifyInputs = "some",
    others: tuple[Store, ...] = (),
    replay: Replay | None = None,
    check_pixels: bool = True,
    labels: LabelClasses = "auto",
    new_classes: bool = False,
    next_step_of_views: str = view_check.IN_TRAINING,
) -> Aligned:
    """The same of samples whose places in the store are known."""
    modality = teachers_modality(store, inputs)
    if replay is not None:
        check_pixels = False
    elif modality is None:
        replay = AsTheyAre(store.manifest.views)
    else:
        replay = store_replay(store, store_N, modality)
        check_one_modality(store.manifest.views, inputs)
    for each in (
        (store, *others) if check_pixels else ()
    ):  # of the same views, another teacher may have seen other pixels
        modality = teachers_modality(each, inputs)
        if modality is not None:
            check_views(source, each, store_N, replay, modality, verify=verify, next_step=next_step_of_views)
    return Aligned(
        source=source,
        inputs=inputs,
        replay=replay,
        store=store,
        store_N=store_N,
        others=others,
        labels="same" if new_classes else stored_classes_of_labels(source, store, store_N, labels=labels),
        new_classes=new_classes,
        seen=store.manifest.seen,
        cache=store.cache,
    )


def teachers_modality(store: Store, inputs: Sequence[InputOptions]) -> Modality | None:
    """The modality that the store's teacher had, if an input has it too: only then its views can be replayed. A name in
    a manifest is compared and never imported."""
    names = [record.modality for record in store.manifest.inputs]
    found = next((modality_of(options) for options in inputs if options.modality in names), None)
    return None if found is None else decoding_for(found, inputs, store.manifest.seen)


def check_one_modality(views: ViewsRecord, inputs: Sequence[InputOptions]) -> None:
    """Raises InvalidOption for random views and inputs of several modalities."""
    names = sorted({options.modality for options in inputs})
    if (views.transforms or views.mixing) and len(names) > 1:
        raise InvalidOption(
            f"the views are random ({describe_views(views)}), and the students' inputs are of several modalities "
            f"({', '.join(names)}). Train students of one modality, or on samples as they are."
        )
