"""What students are fed: which views of a source, and how a store's rows belong to them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from softlab.errors import InvalidOption
from softlab.loading.aligned import AS_THEY_ARE, Aligned, beside_store, check_one_modality
from softlab.loading.teachers import check_same_rows, find_features, find_values
from softlab.loading.view_check import check_recipe
from softlab.manifest import ViewsRecord
from softlab.modalities.modality import InputOptions, modality_of
from softlab.modalities.views import NoViews, Replay, ViewOptions, describe_views, record_views
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.kept import Kept
from softlab.student.options import TrainOptions


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TrainingData:
    """A source as students see it."""

    aligned: Aligned
    views: ViewsRecord
    """What is replayed."""

    num_views: int | None
    """None: without end, a fresh one in every epoch."""

    kept: Kept | None = None
    """What a rule has left of the source."""


def align_inputs(
    source: Source,
    stores: Sequence[Store],
    inputs: tuple[InputOptions, ...],
    options: TrainOptions,
    *,
    augment: ViewOptions | None = None,
    features: Iterable[str] = (),
    values_output: str | None = None,
    of_one_output: bool = True,
) -> TrainingData:
    """With stores, the views that its teacher saw; without one, or where a mismatch is allowed, those of `augment`.
    `values_output` is what students' own outputs learn, where that isn't soft labels. Unless students are
    `of_one_output`, the stores may be over other classes than each other.

    Raises StoreMismatch for stores of other samples or views, InvalidOption for a recipe that can't be followed.
    """
    own = record_views(augment or NoViews(), num_views=1, digest_every=0)
    if not stores:
        aligned = Aligned(source=source, inputs=inputs, replay=_replay(own, len(source), inputs))
        aligned = replace(aligned, values_output=values_output)
        return TrainingData(aligned=aligned, views=own, num_views=None)
    check_same_rows(stores, over_same_classes=of_one_output)
    store = stores[0]
    replays_own = augment is not None and own.fingerprint != store.manifest.views.fingerprint
    if replays_own and options.check.views_mismatch == "refuse":
        check_recipe(store, asked=describe_views(own), fingerprint=own.fingerprint)
    if replays_own and own.mixing is not None:
        raise InvalidOption("[augment] mixes samples, but the stored labels are of one sample each. Leave mixing out.")
    aligned = beside_store(
        source,
        store,
        inputs,
        subset=options.check.subset,
        verify=options.check.verify_inputs,
        others=tuple(stores[1:]),
        replay=_replay(own, store.num_samples, inputs) if replays_own else None,
        check_pixels=options.check.views_mismatch == "refuse",
        labels=options.check.labels,
        new_classes=options.distil.new_classes,
    )
    found = find_features(stores, sorted(set(features) - {values_output}))
    found |= {} if values_output is None else find_values(stores, values_output)
    aligned = replace(aligned, features=found, values_output=values_output)
    if replays_own:
        return TrainingData(aligned=aligned, views=own, num_views=None)
    return TrainingData(aligned=aligned, views=store.manifest.views, num_views=store.num_views)


def check_views_per_image(data: TrainingData, options: TrainOptions) -> None:
    """Raises InvalidOption where a batch would hold a sample twice in one view."""
    wanted, given = options.run.views_per_image, data.num_views
    if wanted == 1:
        return
    where = f"run.views_per_image = {wanted}: "
    if given is None:
        if not data.views.transforms and data.views.mixing is None:
            raise InvalidOption(
                f"{where}samples are trained on as they are, so that all views of one would be equal. Say how they are "
                f"augmented in [augment], or leave `run.views_per_image` out."
            )
        return
    names = ", ".join(store.name for store in data.aligned.stores)
    stored = f"{names}: {given} stored view{'s' * (given > 1)} of each sample"
    if wanted > given:
        raise InvalidOption(
            f"{where}{stored}. Choose {given} or less, or add views to each store: `softlab dump-teacher RECIPE "
            f"--views {wanted}`."
        )
    if options.distil.view_order == "random" and given % wanted:
        raise InvalidOption(
            f"{where}{stored}. In random order some batches would hold the last view of one cycle and the first of the "
            f"next, which may be the same. Choose a divisor of {given}, or `distil.view_order = cycle`."
        )


def _replay(views: ViewsRecord, num_samples: int, inputs: Sequence[InputOptions]) -> Replay:
    if not views.transforms and not views.mixing:
        return AS_THEY_ARE
    check_one_modality(views, inputs)
    return modality_of(inputs[0]).replay(views, num_samples=num_samples)
