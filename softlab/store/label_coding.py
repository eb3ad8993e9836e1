"""The coding of an output's soft labels, as its record in a manifest tells it."""

from typing import TYPE_CHECKING

from msgspec import UnsetType

from softlab.manifest import ClassesRecord, SampledRecord

if TYPE_CHECKING:
    from softlab.labels.coding import LabelCoding
    from softlab.labels.sampled_coding import SampledCoding


def coding_of(output: ClassesRecord) -> "LabelCoding | SampledCoding":
    """How soft labels become the arrays of an output and come back; writers and readers ask here."""
    from softlab.labels.coding import GAP_STEP, LabelCoding  # whoever only copies files starts without torch
    from softlab.labels.sampled_coding import SampledCoding

    if isinstance(output.selection, SampledRecord):
        return SampledCoding(
            num_classes=output.label_space.num_classes,
            resolution=output.selection.resolution,
            frequent=() if isinstance(output.coding.frequent, UnsetType) else output.coding.frequent,
            gap_step=output.coding.gap_step or GAP_STEP,
        )

    return LabelCoding(
        coding=output.coding.logits,
        gap_step=output.coding.gap_step or GAP_STEP,
        num_classes=output.label_space.num_classes,
        temperatures=output.selection.temperatures,
        head=output.head,
        absolute=output.absolute,
        interpolates=output.interpolates is not False,
        has_valid=output.valid,
        masked=output.masked is True,
    )
