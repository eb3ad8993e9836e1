"""How much is kept of each row of an output: its largest logits, or a sample of its distribution."""

# Shape letters: B samples in a batch, R rows of an output, C classes.

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from softlab.indices import RecipeIndex
from softlab.labels.draws import uniforms
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.on_device import copy_to
from softlab.labels.sampling import keep_sampled
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels, join_labels
from softlab.manifest import SampledRecord, StorePlan
from softlab.models.rows import OutputRows
from softlab.teacher.options import DumpOptions

LOOKED_AT = 256
"""Rows, of logits that aren't computed yet, that tell what they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopK:
    """The k largest logits of each row, and their exact tails."""

    k: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Each class of probability 1 / resolution or more, and an unbiased sample of the others. What is drawn hangs on
    the seed, and on the view, the sample and the unit of a row alone."""

    resolution: int
    seed: int = 0
    first_view: int = 0
    """What view 0 of the store is counted as: a part of a store draws what the whole one did."""

    recipe_N: RecipeIndex | None = field(default=None, repr=False)
    """Of each sample, where it isn't its index in the source."""


Selection = TopK | Sampling
Selections = Mapping[str, Selection]
"""By output of kind `classes`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drawn:
    """Which samples a batch holds, and in which view, for its rows to be drawn by."""

    source_B: Tensor
    view: int


def selections_of(plan: StorePlan, *, recipe_N: RecipeIndex | None = None) -> dict[str, Selection]:
    """As a plan says it."""
    found: dict[str, Selection] = {}
    for output in plan.classes:
        selection = output.selection
        if isinstance(selection, SampledRecord):
            seed, first = plan.views.seed, plan.views.first
            found[output.name] = Sampling(
                resolution=selection.resolution, seed=seed, first_view=first, recipe_N=recipe_N
            )
        else:
            found[output.name] = TopK(k=selection.k)
    return found


def select(
    output: OutputRows, selection: Selection, options: DumpOptions, *, drawn: Drawn | None
) -> tuple[SoftLabels, Tensor]:
    """What is kept of the rows of one output, on their device, and bool [R], whether all of a row's logits are finite.
    Logits that aren't computed yet are for some rows after the others."""
    if isinstance(selection, Sampling):
        assert drawn is not None, "a teacher that is run is given samples"
        uniforms_R2 = _uniforms(output, selection, drawn)
        labels = keep_sampled(output.rows, resolution=selection.resolution, uniforms_R2=uniforms_R2)
        assert labels.entropy_B is not None, "it is sampled"
        return labels, labels.entropy_B.isfinite()  # the entropy of a row with NaN is NaN
    if not isinstance(output.rows, LazyLogits):
        return _select_top_k(output.rows, selection, options)
    if not len(output.rows):
        return _select_top_k(output.rows.whole(), selection, options)
    parts = [_select_top_k(logits_RC, selection, options) for _, logits_RC in output.rows.chunks(reuse=True)]
    return join_labels([labels for labels, _ in parts]), torch.cat([is_finite_R for _, is_finite_R in parts])


def select_classes(output: OutputRows, options: DumpOptions) -> Tensor:
    """int64 [R] on the host, the largest class of each row."""
    return select(output, TopK(k=1), options, drawn=None)[0].class_ids_BK[:, 0].cpu()


def some_logits(output: OutputRows, *, most: int = LOOKED_AT) -> Tensor:
    """Those of all rows, or, where logits aren't computed yet, of rows from all over them."""
    if isinstance(output.rows, Tensor):
        return output.rows
    return output.rows[torch.arange(0, len(output.rows), -(-max(len(output.rows), 1) // most))].whole()


def _select_top_k(logits_RC: Tensor, selection: TopK, options: DumpOptions) -> tuple[SoftLabels, Tensor]:
    labels = keep_top_k(
        logits_RC,
        k=selection.k,
        temperatures=options.temperature,
        head=options.head,
        has_valid=options.has_valid,
        masked=options.masked,
    )
    return labels, _are_finite(logits_RC, labels)


def _are_finite(logits_RC: Tensor, labels: SoftLabels) -> Tensor:
    """bool [R]; classes that a row doesn't have are no part of it."""
    if labels.valid_B is None:
        # NaN counts as the largest, and as the smallest too: two numbers a row tell, one of which is there already.
        return labels.max_logit_B.isfinite() & logits_RC.amin(dim=1).isfinite()
    if labels.valid_bits_BW is not None:
        return (logits_RC.isfinite() | logits_RC.isneginf()).all(dim=1) & (labels.valid_B > 0)
    class_ids_C = torch.arange(logits_RC.shape[1], device=logits_RC.device)
    return (logits_RC.isfinite() | (class_ids_C >= labels.valid_B[:, None])).all(dim=1) & (labels.valid_B > 0)


def _uniforms(output: OutputRows, selection: Sampling, drawn: Drawn) -> Tensor:
    """float64 [R, 2], on the device of the logits where that has such numbers; nothing is asked of it."""
    device = output.rows.device if output.rows.device.type != "mps" else torch.device("cpu")
    source_B = drawn.source_B.cpu()
    samples_B = source_B if selection.recipe_N is None else torch.from_numpy(selection.recipe_N)[source_B]
    samples_R = copy_to(device, samples_B)
    if output.counts_B is not None:
        counts_B = copy_to(device, output.counts_B)
        samples_R = samples_R.repeat_interleave(counts_B, output_size=len(output.rows))
    positions_R = output.positions_R
    return uniforms(
        selection.seed,
        view=selection.first_view + drawn.view,
        samples_R=samples_R,
        units_R=torch.zeros_like(samples_R) if positions_R is None else copy_to(device, positions_R),
    )
