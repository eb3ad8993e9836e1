"""What each resolution would keep and weigh, where rows are sampled: by drawing the surveyed rows at each of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import torch
from torch import Tensor

from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.sampled_angles import sampled_angles
from softlab.labels.soft_labels import SoftLabels
from softlab.manifest import SampledRecord, StorePlan
from softlab.teacher.options import DumpOptions
from softlab.teacher.selections import Sampling, Selection
from softlab.teacher.store_size import bytes_per_row
from softlab.teacher.survey_run import Surveyed

RESOLUTIONS = (16, 32, 48)

MOST_ROWS = 4096
"""That angles are told by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledChoice:
    """What one resolution would mean."""

    resolution: int
    entries: float
    """Stored classes of a row, in the mean."""

    head_mass: float
    """Mean probability of the classes that aren't drawn."""

    angle: float
    """Degrees by which the gradient to the output layer, summed over at most `MOST_ROWS` of the surveyed rows, turns
    away from the full one, of a student that knows nothing yet; NaN where logits are all there at once."""

    bytes_per_row: float
    """Labels and features of a sample with all of its rows; not what a store holds of its samples and files."""

    bytes_per_unit: float
    """The same for each row."""


def survey_sampled(
    found: Surveyed, chosen: Mapping[str, Selection], name: str, plan: StorePlan, options: DumpOptions
) -> tuple[SampledChoice, ...]:
    """Of the output `name`, at the resolution that was asked for and at some others."""
    asked = sorted({options.resolution, *RESOLUTIONS})
    angles = _angles(found.whole.logits[name].rows, asked)
    return tuple(
        _choice(found, dict(chosen), name, plan, replace(options, resolution=each), angle=angles[each])
        for each in asked
    )


def _angles(rows: Tensor | LazyLogits, resolutions: Sequence[int]) -> dict[int, float]:
    if not isinstance(rows, LazyLogits) or not len(rows):
        return dict.fromkeys(resolutions, math.nan)
    some = rows[torch.arange(0, len(rows), -(-len(rows) // MOST_ROWS))]
    found = sampled_angles(some, resolutions=resolutions)
    return dict(zip(resolutions, (each.weight for each in found.values()), strict=True))


def _choice(
    found: Surveyed,
    chosen: dict[str, Selection],
    name: str,
    plan: StorePlan,
    options: DumpOptions,
    *,
    angle: float,
) -> SampledChoice:
    output = found.keep(chosen | {name: Sampling(resolution=options.resolution)}, options)
    plan = _at_resolution(plan, name, options.resolution)
    labels, per_sample = output.labels[name], bytes_per_row(plan, options, output)
    rows_a_sample = len(labels) / max(found.num_samples, 1)
    return SampledChoice(
        resolution=options.resolution,
        entries=float((~labels.logits_BK.isneginf()).sum()) / max(len(labels), 1),
        head_mass=_head_mass(labels, options),
        angle=angle,
        bytes_per_row=per_sample,
        bytes_per_unit=per_sample / max(rows_a_sample, 1e-9),
    )


def _at_resolution(plan: StorePlan, name: str, resolution: int) -> StorePlan:
    outputs = tuple(
        msgspec.structs.replace(each, selection=SampledRecord(resolution=resolution)) if each.name == name else each
        for each in plan.classes
    )
    read = () if plan.tokens_read is None else (plan.tokens_read,)
    return msgspec.structs.replace(plan, outputs=(*outputs, *plan.values, *read))


def _head_mass(labels: SoftLabels, options: DumpOptions) -> float:
    weight_BK = (labels.logits_BK + labels.max_logit_B[:, None]).exp()
    is_head_BK = weight_BK >= 1 / options.resolution
    is_head_BK[:, 0] = True
    return float(weight_BK.where(is_head_BK, 0).sum(dim=1).mean())
