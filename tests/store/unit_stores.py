"""Stores with rows for units of a sample, and the plain lists of arrays that they are compared with."""

# Shape letters: V views, N samples, R rows of all samples of a view, C classes.

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from msgspec import UNSET
from numpy.typing import NDArray

from softlab.identity import content_hash
from softlab.labels.coding import GAP_STEP, Coding
from softlab.labels.sampled_arrays import ENTRY_ARRAYS, ROW_ARRAYS, SAMPLE_ARRAYS
from softlab.labels.sampled_coding import SampledCoding
from softlab.labels.sampling import keep_sampled
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.values_coding import ValuesCoding, arrays_of_values
from softlab.manifest import (
    ClassesRecord,
    CodingRecord,
    FieldRecord,
    LabelSpaceRecord,
    Manifest,
    OutputRecord,
    SampledRecord,
    SelectionRecord,
    SourceRecord,
    StorageRecord,
    StorePlan,
    TokensReadRecord,
    ValuesRecord,
    ViewsRecord,
)
from softlab.shards import Shard
from softlab.store.access import writing
from softlab.store.format import Array, FormatName, counts_in
from softlab.store.label_coding import coding_of
from softlab.store.reader import Store
from softlab.store.sampled_rows import place_arrays
from softlab.store.samples import SampleTable
from softlab.store.statistics import measure
from softlab.store.writer import StoreWriter
from tests.manifests import LABELS, make_manifest
from tests.store.building import CODINGS, FORMATS, VALUES_CODINGS, make_values, plain_values, values_record

TEMPERATURES = (1.0, 4.0)
SHAPES: dict[str, tuple[int, ...]] = {"states": (3, 2), "pooled": (5,)}
"""Of the outputs of kind `values`: `states` has units, `pooled` has not."""


@dataclass(frozen=True, kw_only=True)
class UnitModel:
    """A store as it should be: for each array, view and sample the rows of that sample."""

    plan: StorePlan
    rows_N: NDArray[np.int64]
    lists: dict[str, list[list[Array]]] = field(repr=False)

    def rows(self, of: FieldRecord, samples: Sequence[int], views: Sequence[int]) -> Array:
        """Of some samples, each in a view of its own, one behind the other."""
        nothing = np.empty((0, *of.row_shape), dtype=of.dtype)
        lists = self.lists[of.name]
        return np.concatenate([nothing, *(lists[view][sample] for sample, view in zip(samples, views, strict=True))])

    def arrays(self, output: OutputRecord, samples: Sequence[int], views: Sequence[int]) -> dict[str, Array]:
        """All rows of one output, by the short names of its arrays."""
        groups = self.plan.groups_of(output)
        fields = [each for group in groups for each in self.plan.storage.fields_of(group)]
        return {each.short_name: self.rows(each, samples, views) for each in fields}

    def in_shard(self, shard: Shard) -> dict[str, Array]:
        samples = range(shard.start, shard.stop)
        return {each.name: self.rows(each, samples, [shard.view] * len(samples)) for each in self.fields}

    @property
    def fields(self) -> tuple[FieldRecord, ...]:
        return self.plan.storage.fields


def make_unit_plan(
    rows_N: Sequence[int],
    *,
    format: FormatName = "zarr",
    coding: Coding = "float16",
    values_coding: ValuesCoding = "float16",
    num_views: int = 2,
    shard_rows: int = 3,
    chunk_rows: int = 1,
    unit_chunk_rows: int = 2,
    spare_chunks: int = 1,
    has_valid: bool = False,
    is_sampled: bool = False,
    classes: Sequence[str] = ("tokens",),
) -> StorePlan:
    """Of `tokens` (classes) and `states` (values) with a row for each unit, and `pooled` (values) without; `page` would
    be classes without units. With `is_sampled` the rows of classes are. `shard_rows` samples make a shard, and each
    shard has room for the fullest of them and for `spare_chunks` chunks more."""
    most = max(sum(rows_N[start : start + shard_rows]) for start in range(0, len(rows_N), shard_rows))
    room = (-(-max(most, 1) // unit_chunk_rows) + spare_chunks) * unit_chunk_rows
    outputs: list[ClassesRecord | ValuesRecord] = [
        values_record("states", taken_from="layer:encoder:none", coding=values_coding, units=True),
        *(_sampled(name, units=name == "tokens") for name in classes if is_sampled),
        *(_classes(name, coding=coding, units=name == "tokens", valid=has_valid) for name in classes if not is_sampled),
        values_record("pooled", taken_from="layer:pooler:mean", coding=values_coding),
    ]
    example = make_manifest()
    fields = [
        FieldRecord(
            name=f"outputs/{output.name}/{name}",
            dtype=dtype,
            row_shape=shape,
            chunk_rows=unit_chunk_rows if output.units and not name.startswith("samples/") else chunk_rows,
        )
        for output in outputs
        for name, (dtype, shape) in _arrays_of(output).items()
    ]
    values = {name: getattr(example, name) for name in StorePlan.__struct_fields__} | {
        "source": SourceRecord(
            name="folder:letters",
            num_samples=len(rows_N),
            keys_fingerprint=example.source.keys_fingerprint,
            skipped=(),
        ),
        "views": ViewsRecord(num_views=num_views),
        "outputs": tuple(outputs),
        "storage": StorageRecord(format=format, shard_rows=shard_rows, shard_units=room, fields=tuple(fields)),
    }
    return StorePlan(**values)


def _classes(name: str, *, coding: Coding, units: bool, valid: bool) -> ClassesRecord:
    return ClassesRecord(
        name=name,
        taken_from=name,
        label_space=LabelSpaceRecord(num_classes=9, class_names=None, fingerprint=LABELS.label_space.fingerprint),
        selection=SelectionRecord(k=4, temperatures=TEMPERATURES),
        coding=CodingRecord(logits=coding, gap_step=GAP_STEP if coding == "uint8" else None),
        units=units,
        valid=valid,
    )


def _sampled(name: str, *, units: bool) -> ClassesRecord:
    """Of which a head class has a probability of 1/4 or more."""
    return ClassesRecord(
        name=name,
        taken_from=name,
        label_space=LabelSpaceRecord(num_classes=9, class_names=None, fingerprint=LABELS.label_space.fingerprint),
        selection=SampledRecord(resolution=4),
        coding=CodingRecord(
            logits="uint8",
            gap_step=GAP_STEP,
            frequent=(3, 7) if units else UNSET,
            gaps_first=True if units else UNSET,  # as stores before them are read too
        ),
        absolute=False,
        interpolates=False,
        units=units,
    )


def _arrays_of(output: ClassesRecord | ValuesRecord) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Dtype and row shape of each array of an output, by its name behind that of the output."""
    arrays: dict[str, tuple[Any, tuple[int, ...]]] = {"unit": ("uint16", ())} if output.units else {}
    if isinstance(output, ValuesRecord):
        return arrays | arrays_of_values(output.coding, SHAPES[output.name])
    coding, k = coding_of(output), (output.selection.k,)
    if isinstance(coding, SampledCoding):
        arrays |= {name: (dtype, ()) for name, dtype in ROW_ARRAYS.items()}
        arrays |= {f"samples/{name}": (dtype, ()) for name, dtype in SAMPLE_ARRAYS.items()}
        return arrays | {
            f"entries/{name}": (dtype or coding.class_id_dtype, ()) for name, dtype in ENTRY_ARRAYS.items()
        }
    arrays |= {
        "class_ids": (coding.class_id_dtype, k),
        "logits": (coding.logit_dtype, k),
        "max_logit": (coding.float_dtype, ()),
        "log_tail": (coding.float_dtype, (len(TEMPERATURES),)),
    }
    return arrays | ({"valid": (coding.valid_dtype, ())} if output.valid else {})


def fill(plan: StorePlan, rows_N: Sequence[int], *, seed: int = 0) -> UnitModel:
    """The rows of a store: what a teacher may have said, and at which position of its sample each row is."""
    lists: dict[str, list[list[Array]]] = {each.name: [] for each in plan.storage.fields}
    random = np.random.default_rng(seed)
    for _ in range(plan.views.num_views):
        for output in _in_order(plan):
            counts = list(rows_N) if output.units else [1] * len(rows_N)
            arrays = _one_view(output, counts, random)
            if isinstance(output, ClassesRecord):
                placed = place_arrays(plan, output, arrays, rows_S=np.array(counts, dtype=np.int64))
            else:
                placed = {f"{plan.group_of(output)}/{name}": array for name, array in arrays.items()}
            for name, array in placed.items():
                counts_S = counts_in(plan, name.rpartition("/")[0], placed, rows_S=np.array(counts, dtype=np.int64))
                own = np.ones(len(rows_N), dtype=np.int64) if counts_S is None else counts_S
                lists[name].append(np.split(array, np.cumsum(own)[:-1]))
    return UnitModel(plan=plan, rows_N=np.array(rows_N, dtype=np.int64), lists=lists)


def _in_order(plan: StorePlan) -> list[ClassesRecord | ValuesRecord]:
    """Its outputs, of which none is what was read."""
    return [output for output in plan.outputs if not isinstance(output, TokensReadRecord)]


def _one_view(output: ClassesRecord | ValuesRecord, counts: list[int], random: np.random.Generator) -> dict[str, Array]:
    num_rows = sum(counts)
    unit = np.concatenate([np.arange(count) * 2 for count in counts]).astype(np.uint16)
    arrays: dict[str, Array] = {"unit": unit} if output.units else {}
    if isinstance(output, ValuesRecord):
        for name, (dtype, shape) in arrays_of_values(output.coding, SHAPES[output.name]).items():
            arrays[name] = make_values(random, dtype, (num_rows, *shape))
        return arrays
    num_classes, selection = output.label_space.num_classes, output.selection
    logits_RC = torch.from_numpy(random.normal(scale=3, size=(num_rows, num_classes)))
    if output.valid:
        valid_R1 = torch.from_numpy(random.integers(1, num_classes + 1, size=(num_rows, 1)))
        logits_RC = logits_RC.masked_fill(torch.arange(num_classes) >= valid_R1, -torch.inf)
    if isinstance(selection, SampledRecord):
        uniforms_R2 = torch.from_numpy(random.random((num_rows, 2)))
        return arrays | coding_of(output).encode(
            keep_sampled(logits_RC.float(), resolution=selection.resolution, uniforms_R2=uniforms_R2)
        )
    labels = keep_top_k(logits_RC, k=selection.k, temperatures=TEMPERATURES, has_valid=output.valid)
    return arrays | coding_of(output).encode(labels)


@st.composite
def unit_models(draw: st.DrawFn, *, min_samples: int = 1, num_views: int | None = None) -> UnitModel:
    """Any; also of samples that have no rows, and of nothing but those."""
    counts = st.lists(st.integers(0, 5), min_size=min_samples, max_size=8)
    rows_N = draw(counts | counts.map(lambda rows: [0] * len(rows)))
    shard_rows = draw(st.integers(1, 4))
    plan = make_unit_plan(
        rows_N,
        format=draw(st.sampled_from(FORMATS)),
        coding=draw(st.sampled_from(CODINGS)),
        values_coding=draw(st.sampled_from(VALUES_CODINGS)),
        num_views=num_views or draw(st.integers(1, 3)),
        shard_rows=shard_rows,
        chunk_rows=draw(st.sampled_from([rows for rows in range(1, shard_rows + 1) if shard_rows % rows == 0])),
        unit_chunk_rows=draw(st.integers(1, 4)),
        spare_chunks=draw(st.integers(0, 2)),
        has_valid=draw(st.booleans()),
        is_sampled=draw(st.booleans()),
        classes=draw(st.sampled_from([["tokens"], ["page"], ["tokens", "page"], ["page", "tokens"]])),
    )
    return fill(plan, rows_N, seed=draw(st.integers(0, 1000)))


# Writing.


def make_unit_samples(model: UnitModel) -> SampleTable:
    numbers = range(len(model.rows_N))
    return SampleTable(
        keys=[f"{number:03d}" for number in numbers],
        targets_N=np.array([number % 5 for number in numbers]),
        content_hashes=[content_hash(str(number).encode()) for number in numbers],
        rows_N=model.rows_N,
    )


def write_unit_shard(writer: StoreWriter, model: UnitModel, shard: Shard) -> int:
    """Rows of an output with units have no hard target: there is one a sample."""
    samples, arrays, statistics = make_unit_samples(model), model.in_shard(shard), {}
    for output in model.plan.classes:
        own = model.arrays(output, range(shard.start, shard.stop), [shard.view] * shard.num_rows)
        targets_N = None if output.units or samples.targets_N is None else samples.targets_N[shard.start : shard.stop]
        labels = coding_of(output).decode(own)
        statistics[output.name] = measure(labels, targets_N=targets_N, clipped_logits=0, encoded=own)
    return writer.write(
        shard,
        arrays=arrays,
        content_hashes=list(samples.content_hashes[shard.start : shard.stop]),
        statistics=statistics,
        rows_S=model.rows_N[shard.start : shard.stop],
    )


def write_units(root: Path, model: UnitModel, *, order: Sequence[int] | None = None) -> Manifest:
    """A finished store; an interrupted one is gone on with. `order` is that of the shards in the grid."""
    with writing(root, model.plan) as writer:
        shards = writer.pending if order is None else [list(model.plan.grid)[number] for number in order]
        for shard in shards:
            write_unit_shard(writer, model, shard)
        return writer.finalize(make_unit_samples(model))


# Comparing.


def assert_holds(
    store: Store,
    model: UnitModel,
    samples: Sequence[int],
    views: Sequence[int],
    *,
    own_samples: Sequence[int] | None = None,
    own_view: int | None = None,
) -> None:
    """That a store gives the model's rows of some samples, each in a view of its own, to the bit, in each output that
    it has. A store of a part has numbers of its own for them, and is asked for one view."""
    asked = list(samples if own_samples is None else own_samples)
    view = np.array(views, dtype=np.int64) if own_view is None else own_view
    held = {output.name for output in store.manifest.outputs}
    for output in _in_order(model.plan):
        if output.name not in held:
            continue
        expected = model.arrays(output, samples, views)
        if isinstance(output, ValuesRecord):
            values = store.read_features(output.name, asked, view=view)
            np.testing.assert_array_equal(values.numpy(), plain_values(expected), strict=True)
        else:
            found = store.with_labels(output.name).read(asked, view=view)
            counts_B = None if found.counts_B is None else found.counts_B.tolist()
            if output.coding.gaps_first is True:
                expected["gaps"] = _in_their_places(expected, model.rows_N[list(samples)].tolist())
            assert_same_labels(found, coding_of(output).decode(expected))
            assert counts_B == (model.rows_N[list(samples)].tolist() if output.units else None)


def _in_their_places(arrays: dict[str, Array], rows_B: Sequence[int]) -> Array:
    """Gaps as the coding knows them, of some samples whose gaps stand first."""
    stored, gaps, at, row = arrays["gaps"].tolist(), [], 0, 0
    for rows in rows_B:
        own = range(row, row + rows)
        counts = [(int(arrays["num_head"][each]), int(arrays["num_drawn"][each])) for each in own]
        first = iter(stored[at:])
        for head, drawn in counts:
            gaps += [0, *(next(first) for _ in range(head - 1)), *[0] * drawn]
        at, row = len(gaps), row + rows
    return np.array(gaps, dtype=np.uint8)


def assert_holds_all(
    store: Store, model: UnitModel, *, samples: Sequence[int] | None = None, views: Sequence[int] | None = None
) -> None:
    """That it holds these samples and views of the model, by default all, and no others."""
    samples = range(len(model.rows_N)) if samples is None else samples
    views = range(model.plan.views.num_views) if views is None else views
    assert (store.num_samples, store.num_views) == (len(samples), len(views))
    for own_view, view in enumerate(views):
        own = list(range(len(samples)))
        assert_holds(store, model, samples, [view] * len(own), own_samples=own, own_view=own_view)


def assert_same_labels(found: SoftLabels, expected: SoftLabels) -> None:
    assert [each.dtype for each in found.tensors()] == [each.dtype for each in expected.tensors()]
    assert all(one.equal(other) for one, other in zip(found.tensors(), expected.tensors(), strict=True))
    assert (found.valid_B is None) == (expected.valid_B is None)
    assert (found.temperatures, found.num_classes) == (expected.temperatures, expected.num_classes)
