"""The samples of a run as each head of its students sees them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from softlab.labels.chance import LabelClasses
from softlab.loading.aligned import Aligned
from softlab.loading.label_check import stored_classes_of_labels, stored_label_note, warn_of_labels
from softlab.loading.sample_check import with_stored_classes
from softlab.loading.teachers import find_values
from softlab.modalities.modality import InputOptions
from softlab.modalities.views import ViewOptions
from softlab.sources.several_targets import with_one_target
from softlab.sources.source import Source
from softlab.store.reader import Store
from softlab.student.heads.plan import HeadPlan
from softlab.student.inputs import TrainingData, align_inputs
from softlab.student.options import TrainOptions


def align_heads(
    plans: Mapping[str, HeadPlan],
    source: Source,
    stores: Sequence[Store],
    inputs: tuple[InputOptions, ...],
    options: TrainOptions,
    *,
    augment: ViewOptions | None = None,
    features: Iterable[str] = (),
) -> TrainingData:
    """As `align_inputs`, with the hard targets and the store of each head. The stores hold the same samples and views,
    over classes of their own. Raises as there."""
    bare = with_one_target(source, None)
    data = align_inputs(bare, stores, inputs, options, augment=augment, features=features, of_one_output=False)
    heads = {
        name: head_of(data.aligned, plan, with_one_target(source, plan.target), plan.store, options.check.labels)
        for name, plan in plans.items()
    }
    return replace(data, aligned=replace(data.aligned, heads=heads))


def head_of(whole: Aligned, plan: HeadPlan, source: Source, store: Store | None, labels: LabelClasses) -> Aligned:
    """The samples of a run, or of a validation source, with the hard targets of `source` and the store of one head;
    without a store they are compared with the classes that the head has learnt."""
    own = replace(whole, source=source, store=store, others=(), features={}, heads={})
    if plan.values_output is not None:
        held = {} if store is None else find_values([store], plan.values_output)
        return replace(own, values_output=plan.values_output, features=held)
    if store is None or whole.store_N is None:
        return replace(own, labels=labels, num_classes=plan.store.num_classes)
    source = with_stored_classes(source, store)
    return replace(own, source=source, labels=stored_classes_of_labels(source, store, whole.store_N, labels=labels))


def look_at_heads(aligned: Aligned, *, labels: LabelClasses) -> None:
    """Warns with OddLabels where the hard targets of a head contradict its store."""
    for head in aligned.heads.values():
        if head.store is not None and head.values_output is None:
            warn_of_labels(stored_label_note(head.source, head.store, head.store_N, labels=labels))
