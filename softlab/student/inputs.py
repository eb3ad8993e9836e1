"""What students are fed: which views of a source, and how a store's rows belong to them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from softlab.errors import InvalidOption
from softlab.loading.aligned import AS_THEY_ARE, Aligned, as_the_teacher_saw, check_one_modality, teachers_modality
from softlab.loading.alignment import align
from softlab.loading.teachers import check_same_rows, find_features
from softlab.loading.view_check import check_recipe, check_views
from softlab.manifest import ViewsRecord
from softlab.modalities.modality import InputOptions, modality_of
from softlab.modalities.views import NoViews, Replay, ViewOptions, describe_views, record_views
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.options import TrainOptions


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainingData:
    """A source as students see it."""

    aligned: Aligned
    views: ViewsRecord
    """What is replayed."""

    num_views: int | None
    """None: without end, a fresh one in every epoch."""


def align_inputs(
    source: Source,
    stores: Sequence[Store],
    inputs: tuple[InputOptions, ...],
    options: TrainOptions,
    *,
    augment: ViewOptions | None = None,
    features: Iterable[str] = (),
) -> TrainingData:
    """With stores, the views that its teacher saw; without one, or where a mismatch is allowed, those of `augment`.

    Raises StoreMismatch for stores of other samples or views, InvalidOption for a recipe that can't be followed.
    """
    own = record_views(augment or NoViews(), num_views=1, digest_every=0)
    if not stores:
        return _fresh(Aligned(source=source, inputs=inputs, replay=_replay(own, len(source), inputs)), own)
    check_same_rows(stores)
    store = stores[0]
    rest: dict[str, Any] = {
        "others": tuple(stores[1:]),
        "features": find_features(stores, features),
        "new_classes": options.new_classes,
    }
    if augment is not None and options.views_mismatch == "refuse":
        check_recipe(store, asked=describe_views(own), fingerprint=own.fingerprint)
    if augment is not None and own.fingerprint != store.manifest.views.fingerprint:
        return _fresh(replace(_other_views(source, store, inputs, options, own), **rest), own)
    aligned = as_the_teacher_saw(
        source,
        store,
        inputs,
        subset=options.subset,
        verify=options.verify_inputs,
        check_pixels=options.views_mismatch == "refuse",
    )
    assert aligned.store_N is not None
    for other in stores[1:] if options.views_mismatch == "refuse" else ():  # another teacher may have seen other pixels
        modality = teachers_modality(other, inputs)
        if modality is not None:
            check_views(source, other, aligned.store_N, aligned.replay, modality, verify=options.verify_inputs)
    return TrainingData(aligned=replace(aligned, **rest), views=store.manifest.views, num_views=store.num_views)


def _other_views(
    source: Source, store: Store, inputs: tuple[InputOptions, ...], options: TrainOptions, views: ViewsRecord
) -> Aligned:
    """Rows of a store beside views that its teacher never saw."""
    if views.mixing is not None:
        raise InvalidOption("[augment] mixes samples, but the stored labels are of one sample each. Leave mixing out.")
    return Aligned(
        source=source,
        inputs=inputs,
        replay=_replay(views, store.num_samples, inputs),
        store=store,
        store_N=align(source, store, subset=options.subset, verify=options.verify_inputs),
    )


def _fresh(aligned: Aligned, views: ViewsRecord) -> TrainingData:
    return TrainingData(aligned=aligned, views=views, num_views=None)


def _replay(views: ViewsRecord, num_samples: int, inputs: Sequence[InputOptions]) -> Replay:
    if not views.transforms and not views.mixing:
        return AS_THEY_ARE
    check_one_modality(views, inputs)
    return modality_of(inputs[0]).replay(views, num_samples=num_samples)
