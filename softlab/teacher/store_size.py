"""What a store would weigh: by encoding what was surveyed as it would be, and a part of its samples."""

from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from softlab.identity import CONTENT_HASH_BYTES, ContentHashes
from softlab.labels.coding import GAP_STEP, LabelCoding
from softlab.labels.gap_step import choose_gap_step
from softlab.labels.sampled_coding import SampledCoding
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.values_coding import encode_values
from softlab.manifest import StorePlan
from softlab.sources.source import Source, hard_targets
from softlab.store.format import Array, counts_in
from softlab.store.known_formats import format_named
from softlab.store.label_coding import coding_of
from softlab.store.sampled_rows import place_arrays, place_tokens
from softlab.store.samples import SampleTable, encode_samples
from softlab.store.unit_rows import UnitRows
from softlab.teacher.forward import TeacherOutput
from softlab.teacher.options import DumpOptions
from softlab.teacher.storage_plan import coding_for, plan_storage

STEP_ROWS = 256
"""By which the step of the uint8 coding is told for each K that is shown."""

SAMPLES_WEIGHED = 1 << 16

BYTES_OF_FILE = 200
"""What the manifest says of one: its path, its size and its hash."""

BYTES_OF_SHARD = 500
"""Besides its files: which rows, and statistics."""

BYTES_OF_REST = 6000
"""The rest of the manifest and the card."""

BYTES_OF_DIGEST = 8
"""Of a view's pixels."""


def bytes_per_row(plan: StorePlan, options: DumpOptions, output: TeacherOutput) -> float:
    """By encoding the surveyed samples as the only shards of a store of their own. A row is a sample in one view, with
    all of its units."""
    count = len(output.is_finite_B)
    most_units = None if output.counts_B is None else int(output.counts_B.max())
    plan = msgspec.structs.replace(
        plan,
        source=msgspec.structs.replace(plan.source, num_samples=count),
        views=msgspec.structs.replace(plan.views, num_views=1),
        storage=plan_storage(options, output, num_samples=count, read=plan.tokens_read, most_units=most_units),
    )
    rows_N = None if output.counts_B is None else output.counts_B.numpy()
    arrays = _arrays_of(plan, output, options, rows_N=rows_N)
    encode, total = format_named(options.format).encode, 0
    for shard in plan.grid:
        own = {}
        for each in plan.storage.fields:
            counts_N = counts_in(plan, each.group, arrays, rows_S=rows_N)
            cut = slice(shard.start, shard.stop) if counts_N is None else slice(*UnitRows(counts_N).span(shard))
            own[each.name] = arrays[each.name][cut]
        rows_S = None if rows_N is None else rows_N[shard.start : shard.stop]
        total += sum(len(data) for data in encode(plan, shard, own, rows_S=rows_S).values())
    return total / count


def bytes_of_samples(plan: StorePlan, source: Source) -> float:
    """What a store holds besides labels and features: keys, targets, content hashes, digests of pixels, the manifest.

    Of a part of the samples, with hashes of noise, which don't compress as theirs don't.
    """
    count, targets_N = min(len(source), SAMPLES_WEIGHED), hard_targets(source)
    noise = np.random.default_rng(0).bytes(CONTENT_HASH_BYTES * count)
    table = SampleTable(
        keys=source.keys[:count],
        targets_N=None if targets_N is None else targets_N[:count],
        content_hashes=ContentHashes.from_bytes(noise),
        rows_N=np.ones(count, dtype=np.int64) if plan.has_units else None,
    )
    views, every = plan.views.num_views, plan.views.digest_every
    digests = BYTES_OF_DIGEST * views * len(source) / every if every else 0.0
    return len(encode_samples(table)) / count * len(source) + digests + _bytes_of_manifest(plan)


def _bytes_of_manifest(plan: StorePlan) -> int:
    """And of what else belongs to no shard."""
    fields = plan.storage.fields
    files = len(fields) if plan.storage.format == "zarr" else len({field.group for field in fields})
    num_shards = plan.views.num_views * plan.grid.parts_per_view
    layout = sum(map(len, format_named(plan.storage.format).layout_files(plan).values()))
    return num_shards * (files * BYTES_OF_FILE + BYTES_OF_SHARD) + layout + BYTES_OF_REST


def _arrays_of(
    plan: StorePlan, output: TeacherOutput, options: DumpOptions, *, rows_N: NDArray[np.int64] | None
) -> dict[str, Array]:
    """All arrays of a store of one shard."""
    arrays: dict[str, Array] = {}
    for record in plan.classes:
        name, labels = record.name, output.labels[record.name]
        coding: LabelCoding | SampledCoding = coding_of(record)
        if not labels.is_sampled:
            coding = replace(coding_for(options, labels), gap_step=_step_for(options, labels))
        arrays |= place_arrays(plan, record, coding.encode(labels), rows_S=rows_N)
    if plan.tokens_read is not None:
        assert output.read is not None, "the plan says that it is stored"
        counts_S = output.read.counts_B.numpy()
        arrays |= place_tokens(plan, plan.tokens_read, output.read.ids_E.numpy(), counts_S=counts_S)
    for name, rows in output.values.items():
        encoded = encode_values(rows, options.values_coding)
        arrays |= {f"outputs/{name}/{array}": values for array, values in encoded.items()}
    if output.units_R is not None:
        units_R = output.units_R.numpy().astype("uint32")
        arrays |= {f"outputs/{name}/unit": units_R for name in output.with_units}
    return arrays


def _step_for(options: DumpOptions, labels: SoftLabels) -> float:
    """Of some of the rows: it is looked for once for each K."""
    if options.coding != "uint8" or options.gap_step is not None:
        return options.gap_step or GAP_STEP
    few = labels.with_each(lambda tensor: tensor[:STEP_ROWS])
    return choose_gap_step(few)
