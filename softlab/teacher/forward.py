"""One forward pass of the teacher: from a batch of samples to what is kept of it, all on the teacher's device."""

# Shape letters: B samples in a batch, R rows of an output (B, or more with units), C classes, K entries kept (K <= C).

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from softlab.amounts import format_count
from softlab.errors import ModelError
from softlab.labels.lazy_logits import LazyLogits
from softlab.labels.soft_labels import SoftLabels
from softlab.labels.values_coding import dtype_before
from softlab.loading.batch import Batch
from softlab.manifest import InputRecord
from softlab.modalities.inputs import Collated
from softlab.modalities.modality import InputOptions
from softlab.models.device import Autocast, choose_device, floating_dtype, place
from softlab.models.forward import Output, outputs_of
from softlab.models.outputs import WantedOutput, pick_output
from softlab.models.rows import OutputRows, check_counted, classes_as_rows, values_as_rows
from softlab.models.split import split_over_gpus
from softlab.models.taps import FeatureTaps
from softlab.teacher.options import DumpOptions
from softlab.teacher.selections import Drawn, Selections, select


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """A frozen model and what a manifest says about it; for a bare module `dump_teacher` makes one."""

    module: nn.Module
    name: str
    """What it was built from, such as `torchvision:resnet50`."""

    arguments: Mapping[str, object]
    input: InputOptions
    """How it wants its samples."""

    class_names: tuple[str, ...] | None = None
    """What its classes are called, where the source doesn't name the same ones."""

    seen: tuple[InputRecord, ...] = ()
    """How samples were decoded when it was trained, where its weights tell; samples are then decoded alike."""

    @property
    def inputs(self) -> tuple[InputOptions, ...]:
        """What samples are prepared as for it."""
        return (self.input,)

    def start(self, options: DumpOptions) -> "Run":
        """The teacher, ready to be shown batches."""
        return TeacherRun(self, options)

    def __repr__(self) -> str:
        num_parameters = sum(parameter.numel() for parameter in self.module.parameters())
        return f"Teacher({self.name}, {format_count(num_parameters, 'parameter')}, {self.input.modality})"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokensRead:
    """The tokens of some samples, one sample behind the other; on the host."""

    ids_E: Tensor
    counts_B: Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WholeOutput:
    """All that the teacher gave for the B samples of a batch, as rows."""

    num_samples: int
    logits: dict[str, OutputRows]
    """float32 [R, C] by output of kind `classes`; of many classes not computed yet."""

    values: dict[str, OutputRows]
    """[R, ...] by output of kind `values`: float16 where they are stored as such, else float32."""

    targets_R: Tensor | None = None
    """int64 [R], as in `TeacherOutput`."""

    read: TokensRead | None = None

    drawn: Drawn | None = None
    """What rows that are sampled are drawn by."""

    num_redone: int = 0
    """Samples of another pass in float32, because they overflowed under autocast."""

    @property
    def with_units(self) -> OutputRows | None:
        """An output with several rows a sample, where there is one: all of them have the same rows."""
        return next((rows for rows in self.all_rows.values() if rows.counts_B is not None), None)

    @property
    def all_rows(self) -> dict[str, OutputRows]:
        return self.logits | self.values

    def on_host(self) -> "WholeOutput":
        def moved(rows: OutputRows) -> OutputRows:
            return OutputRows(
                rows=_on_host(rows.rows),
                counts_B=None if rows.counts_B is None else rows.counts_B.cpu(),
                positions_R=None if rows.positions_R is None else rows.positions_R.cpu(),
            )

        logits = {name: moved(rows) for name, rows in self.logits.items()}
        values = {name: moved(rows) for name, rows in self.values.items()}
        return replace(self, logits=logits, values=values)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TeacherOutput:
    """What is kept of the teacher's output for the B samples of a batch, on its way from the device to a shard."""

    labels: dict[str, SoftLabels]
    """By output of kind `classes`."""

    is_finite_B: Tensor
    """bool, whether all logits of the sample are finite, and its values in the dtype that they have here."""

    values: dict[str, Tensor] = field(default_factory=dict)
    """[R, ...] by output of kind `values`: float16 where they are stored as such, else float32."""

    counts_B: Tensor | None = None
    """int64, how many rows each sample has in outputs with units; None where no output has units."""

    units_R: Tensor | None = None
    """int64, which position of its sample each of those rows is."""

    with_units: frozenset[str] = frozenset()
    """Names of the outputs with units."""

    targets_R: Tensor | None = None
    """int64, on the host: the right class of each of those rows, where samples themselves tell it, as tokens the one
    that follows."""

    read: TokensRead | None = None
    """What the teacher has read, where it is stored."""

    redone_B: Tensor | None = None
    """bool, on the host: which samples overflowed under autocast and were run again; None for none."""

    def start_to_host(self) -> "OutputOnHost":
        """Begin the copies to the host without waiting for the device."""
        return OutputOnHost(self)


class OutputOnHost:
    """Copies under way; `wait` returns them when they have arrived. May be waited for in another thread."""

    def __init__(self, output: TeacherOutput) -> None:
        self._output = replace(
            output,
            labels={name: labels.with_each(_to_host) for name, labels in output.labels.items()},
            values={name: _to_host(values) for name, values in output.values.items()},
            is_finite_B=_to_host(output.is_finite_B),
            counts_B=None if output.counts_B is None else _to_host(output.counts_B),
            units_R=None if output.units_R is None else _to_host(output.units_R),
        )
        self._arrived: torch.cuda.Event | None = None
        if output.is_finite_B.is_cuda:
            # On the tensors' own device: with several GPUs the current one may be another. Blocking: no spinning core.
            self._arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            self._arrived.record(torch.cuda.current_stream(output.is_finite_B.device))

    def wait(self) -> TeacherOutput:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._output


class Run(Protocol):
    """What gives rows for batches, wherever it has them from; a context manager."""

    @property
    def device(self) -> torch.device: ...

    @property
    def options(self) -> DumpOptions: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def run(self, batch: Batch, *, selections: Selections) -> TeacherOutput:
        """What is kept of a batch, on the device; nothing is waited for."""
        ...


class TeacherRun:
    """The teacher on its device, in inference mode; a context manager that holds its feature taps."""

    def __init__(self, teacher: Teacher, options: DumpOptions) -> None:
        self.device = choose_device(options.device.name)
        self.options, self.wanted = options, options.wanted_outputs
        module, self._moving = teacher.module.eval(), list[RemovableHandle]()
        if options.split:
            self._moving = split_over_gpus(module)
        else:
            place(module, self.device, channels_last=options.device.channels_last)
        self._taps = FeatureTaps(module, {each.name: each.tap for each in self.wanted if each.tap is not None})
        self.module = module
        self._called: Callable[..., object] = torch.compile(module) if options.device.compile else module

    def __enter__(self) -> "TeacherRun":
        self._taps.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._taps.__exit__(None, None, None)
        for handle in self._moving:
            handle.remove()

    @property
    def rounding(self) -> Literal["exact", "short", "half"]:
        """How much of float32 a forward pass keeps: all, the 10 bits that GPUs may take of it, or half precision."""
        dtype = floating_dtype(self.module)
        if self.options.device.autocast != "none" or dtype in (torch.float16, torch.bfloat16):
            return "half"
        return "exact" if self.device.type == "cpu" else "short"

    @property
    def may_overflow(self) -> bool:
        """Whether float32 would hold numbers that are infinite here."""
        return self.options.device.autocast != "none"

    @torch.inference_mode()
    def whole(self, batch: Batch, *, compiled: bool = True, autocast: Autocast | None = None) -> WholeOutput:
        """All rows of the wanted outputs, on the device; `compiled`, and under autocast, if the options say so. Raises
        ModelError for an output that isn't there, doesn't have the shape of its kind, or has other units than another
        one."""
        (collated,) = batch.to(self.device, channels_last=self.options.device.channels_last).inputs
        called = self._called if compiled else self.module
        autocast = autocast or self.options.device.autocast
        returned = outputs_of(called, collated.inputs, device=self.device, autocast=autocast)
        tapped = {name: feature.to(self.device) for name, feature in self._taps.collect().items()}
        rows = {each.name: _rows_of(each, pick_output(each, returned, tapped), collated) for each in self.wanted}
        _check_units(rows)
        kinds, dtype = {each.name: each.kind for each in self.wanted}, dtype_before(self.options.values_coding)
        # Values are always copied: they wait to be written while the next batches run, and a model may use the memory
        # of its output again, or return a small part of a large tensor.
        return WholeOutput(
            num_samples=len(collated),
            logits={n: replace(r, rows=_as_float32(r.rows)) for n, r in rows.items() if kinds[n] == "classes"},
            values={n: replace(r, rows=r.known.to(dtype, copy=True)) for n, r in rows.items() if kinds[n] == "values"},
            targets_R=None if collated.units is None else collated.units.targets_R,
            read=_read_tokens(collated, self.options),
            drawn=Drawn(source_B=batch.source_B, view=int(batch.views_B[0]) if len(batch) else 0),
        )

    def run(self, batch: Batch, *, selections: Selections) -> TeacherOutput:
        """What is kept of a batch, on the device; nothing is waited for."""
        return keep(self.whole(batch), selections=selections, options=self.options)


@torch.inference_mode()
def keep(whole: WholeOutput, *, selections: Selections, options: DumpOptions) -> TeacherOutput:
    """What is selected of each row, by output of kind `classes`; values as they are."""
    labels, finite = {}, []
    for name, output in whole.logits.items():
        labels[name], is_finite_R = select(output, selections[name], options, drawn=whole.drawn)
        finite.append((output, is_finite_R))
    for output in whole.values.values():
        finite.append((output, output.known.isfinite().flatten(start_dim=1).all(dim=1)))
    units = whole.with_units
    return TeacherOutput(
        labels=labels,
        values={name: output.known for name, output in whole.values.items()},
        is_finite_B=torch.stack([_by_sample(is_finite_R, output) for output, is_finite_R in finite]).all(dim=0),
        counts_B=None if units is None else units.counts_B,
        units_R=None if units is None else units.positions_R,
        targets_R=whole.targets_R,
        read=whole.read,
        with_units=frozenset(name for name, rows in whole.all_rows.items() if rows.counts_B is not None),
    )


def _rows_of(wanted: WantedOutput, output: Output, collated: Collated) -> OutputRows:
    as_rows = classes_as_rows if wanted.kind == "classes" else values_as_rows
    if wanted.kind == "classes":
        check_counted(output, collated.inputs, name=wanted.name, counted=collated.units)
    return as_rows(output, name=wanted.name, num_samples=len(collated), counted=collated.units)


def _check_units(rows: Mapping[str, OutputRows]) -> None:
    """Raises ModelError where two outputs have several rows a sample, and not the same number of them."""
    counted = {name: len(each.rows) for name, each in rows.items() if each.counts_B is not None}
    first = next(iter(counted), "")
    for name, num_rows in counted.items():
        if num_rows != counted[first]:
            raise ModelError(
                f"outputs {first} and {name}: the first has {counted[first]:,} rows for these samples, the second "
                f"{num_rows:,}, but the outputs of a store have the same positions. Dump them into two stores, or take "
                f"outputs of one resolution."
            )


def _by_sample(is_finite_R: Tensor, output: OutputRows) -> Tensor:
    """bool [B], whether all rows of a sample are; without waiting for a device."""
    if output.counts_B is None:
        return is_finite_R
    num_samples, device = len(output.counts_B), is_finite_R.device
    sample_R = torch.repeat_interleave(
        torch.arange(num_samples, device=device), output.counts_B, output_size=len(is_finite_R)
    )
    bad_B = torch.zeros(num_samples, device=device).index_add(0, sample_R, (~is_finite_R).float())
    return bad_B == 0


def _read_tokens(collated: Collated, options: DumpOptions) -> TokensRead | None:
    if options.inputs == "none" or collated.token_ids_E is None or collated.token_counts_B is None:
        return None
    return TokensRead(ids_E=collated.token_ids_E, counts_B=collated.token_counts_B)


def _as_float32(rows: Tensor | LazyLogits) -> Tensor | LazyLogits:
    """Logits that aren't computed yet are, when they are computed."""
    return rows if isinstance(rows, LazyLogits) else rows.float()


def _on_host(rows: Tensor | LazyLogits) -> Tensor | LazyLogits:
    if isinstance(rows, Tensor):
        return rows.cpu()
    bias_C = None if rows.bias_C is None else rows.bias_C.cpu()
    return replace(rows, hidden=rows.hidden.cpu(), weight_CD=rows.weight_CD.cpu(), bias_C=bias_C)


def _to_host(tensor: Tensor) -> Tensor:
    """Into pinned memory where the device is CUDA, because only such a copy doesn't wait."""
    if not tensor.is_cuda:
        return tensor.cpu()
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
