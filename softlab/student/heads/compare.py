"""What each head of the students is measured on while they train."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from softlab.errors import StoreMismatch
from softlab.evaluation.best import AUTO, choose_metric
from softlab.loading.aligned import Aligned
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.modalities.modality import InputOptions
from softlab.sources.known_classes import with_known_classes
from softlab.sources.several_targets import with_one_target
from softlab.store.reader import Store
from softlab.student.heads.data import head_of, look_at_heads
from softlab.student.heads.plan import HeadPlan
from softlab.student.inputs import align_inputs
from softlab.student.options import TrainOptions
from softlab.student.validation import Comparison, Validation, is_comparable


def compare_heads(
    valid: Validation,
    plans: Mapping[str, HeadPlan],
    inputs: tuple[InputOptions, ...],
    options: TrainOptions,
    *,
    device: torch.device,
    is_main: bool = True,
    tells: bool = True,
) -> Comparison:
    """The validation samples as each head sees them: with its hard targets, if the source has them, and with the stored
    output of the same teacher, if there is one.

    Raises StoreMismatch for a validation store of none of the teachers, InvalidOption for a `run.best_by` that can't be
    measured. Warns with OddLabels, where `tells`.
    """
    stores = valid.stores
    of_head = {name: _store_of(plan, stores) for name, plan in plans.items()}
    _check_all_compared(stores, [store for store in of_head.values() if store is not None], plans)
    bare = with_one_target(valid.source, None)
    whole = align_inputs(bare, stores, inputs, options, of_one_output=False).aligned
    if not stores:
        store = next(iter(plans.values())).store
        whole = replace(whole, seen=store.manifest.seen, cache=store.cache)  # decoded as what students are trained on
    heads = {name: _head(whole, plan, valid, of_head[name], options) for name, plan in plans.items()}
    aligned = replace(whole, heads=heads)
    if tells:
        look_at_heads(aligned, labels=options.check.labels)
    best_by = options.run.best_by if is_main else AUTO
    loading = LoaderOptions(workers=options.device.workers)
    return Comparison(
        loader=BatchLoader(aligned, device=device, options=loading, keep_decoded=True, keep_workers=is_main),
        best_by=choose_metric(best_by, _choosable(aligned, plans) if best_by == AUTO else aligned),
    )


def _head(whole: Aligned, plan: HeadPlan, valid: Validation, store: Store | None, options: TrainOptions) -> Aligned:
    target = plan.target if plan.target in valid.source.targets else None
    source = with_one_target(valid.source, target)
    if plan.values_output is None:
        source = with_known_classes(source, plan.store.class_names, whose=plan.store.name)
    return head_of(whole, plan, source, store, options.check.labels)


def _choosable(aligned: Aligned, plans: Mapping[str, HeadPlan]) -> Aligned:
    """With the heads that all students learn alone, where there are any: by them `auto` makes an epoch the best."""
    most = max(len(plan.students) for plan in plans.values())
    return replace(aligned, heads={name: aligned.heads[name] for name in plans if len(plans[name].students) == most})


def _store_of(plan: HeadPlan, stores: Sequence[Store]) -> Store | None:
    """The validation store of the teacher of a head, with its output; None where there is none."""
    for store in stores:
        output = plan.store.labels.name if plan.values_output is None else plan.values_output
        kinds = store.manifest.classes if plan.values_output is None else store.manifest.values
        if output in [each.name for each in kinds]:
            chosen = store if plan.values_output is not None else store.with_labels(output)
            if is_comparable(chosen, plan.store, by_classes=plan.values_output is None):
                return chosen
    return None


def _check_all_compared(stores: Sequence[Store], used: Sequence[Store], plans: Mapping[str, HeadPlan]) -> None:
    for store in stores:
        if store.digest not in {each.digest for each in used}:
            names = " or ".join(dict.fromkeys(plan.store.name for plan in plans.values()))
            raise StoreMismatch(
                f"{store.name}: holds no output of a teacher that a head learns from ({names}), or it is over other "
                f"classes. Dump the validation source with these teachers, or leave it out of `valid_store`."
            )
