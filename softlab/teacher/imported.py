"""A teacher that ran elsewhere: what it said is looked up, and goes the way of a dump from there."""

# Shape letters: N rows of the predictions, B samples in a batch.

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlab.errors import InvalidOption, SourceError, StoreMismatch, first_few
from softlab.keys import Keys
from softlab.labels.soft_labels import Head
from softlab.labels.values_coding import dtype_before
from softlab.loading.batch import Batch
from softlab.modalities.modality import InputOptions
from softlab.models.outputs import WantedOutput, parse_output
from softlab.models.rows import OutputRows
from softlab.predictions.columns import VIEW, Columns
from softlab.predictions.options import PredictionOptions
from softlab.predictions.rows import PredictedRows
from softlab.sources.source import Source
from softlab.teacher.classifier_check import are_probabilities
from softlab.teacher.forward import Teacher, TeacherOutput, WholeOutput, keep
from softlab.teacher.options import DumpOptions
from softlab.teacher.selections import Selections, TopK


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedTeacher(Teacher):
    """Predictions in place of a model; its module has no weights."""

    rows: PredictedRows
    row_VN: NDArray[np.int64]
    """Of each view of each sample of the source, which row is its own."""

    fingerprint: str
    """Hash of the file."""

    @property
    def inputs(self) -> tuple[InputOptions, ...]:
        """None: samples are read to be hashed, not to be decoded."""
        return ()

    def start(self, options: DumpOptions) -> "Lookup":
        return Lookup(teacher=self, options=options)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lookup:
    """Gives for a batch what the predictions say of its samples; stands where `TeacherRun` stands in a dump."""

    teacher: ImportedTeacher
    options: DumpOptions
    device = torch.device("cpu")
    may_overflow = False

    def __enter__(self) -> "Lookup":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, batch: Batch, *, selections: Selections) -> TeacherOutput:
        """What is kept of a batch."""
        rows_B = self.teacher.row_VN[batch.views_B.numpy(), batch.source_B.numpy()]
        return self.look_up(rows_B, selections=selections)

    def look_up(self, rows_B: NDArray[np.int64], *, selections: Selections) -> TeacherOutput:
        """The same for rows of the predictions."""
        (wanted,) = self.options.wanted_outputs
        if self.teacher.rows.is_top_k:
            selection = selections[wanted.name]
            assert isinstance(selection, TopK), "options of an import say so"
            labels = self.teacher.rows.labels(rows_B, k=selection.k)
            return TeacherOutput(labels={wanted.name: labels}, is_finite_B=torch.ones(len(rows_B), dtype=torch.bool))
        return keep(self.whole(rows_B), selections=selections, options=self.options)

    def first_classes(self, source_B: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """int64 [B], the largest class of some samples in their first view, by output of kind `classes`."""
        least = {each.name: TopK(k=1) for each in self.options.wanted_outputs if each.kind == "classes"}
        labels = self.look_up(self.teacher.row_VN[0, source_B], selections=least).labels
        return {name: each.class_ids_BK[:, 0].numpy() for name, each in labels.items()}

    def whole(self, rows_B: NDArray[np.int64]) -> WholeOutput:
        """All classes, or values, of rows of the predictions."""
        (wanted,) = self.options.wanted_outputs
        is_values, told = wanted.kind == "values", self.teacher.rows.tensor(rows_B)
        kept = told.to(dtype_before(self.options.values_coding)) if is_values else told
        rows = {wanted.name: OutputRows(rows=kept)}
        return WholeOutput(num_samples=len(rows_B), logits={} if is_values else rows, values=rows if is_values else {})


def match_rows(columns: Columns, source: Source, options: PredictionOptions) -> NDArray[np.int64]:
    """int64 [views, samples], which row of the predictions is each sample's in each view. By its key, or, where rows
    have none and it is asked for, by its place, as far as content hashes prove that.

    Raises SourceError for keys that are missing, foreign or repeated in a view, and for content hashes that are
    others'.
    """
    if columns.keys is None:
        row_VN = _by_position(columns, source, options)[None]
    elif columns.views_N is None:
        row_VN = _by_key(columns, columns.keys, source, options)[None]
    else:
        row_VN = _by_view(columns, columns.keys, columns.views_N, source, options)
    if columns.content_hashes is not None:
        _check_contents(columns, columns.content_hashes, source, row_VN)
    return row_VN


def _by_view(
    columns: Columns, keys: Keys, views_N: NDArray[np.int64], source: Source, options: PredictionOptions
) -> NDArray[np.int64]:
    found, num_views = np.unique(views_N), int(views_N.max(initial=0)) + 1
    if len(found) < num_views:
        missing = sorted(set(range(min(num_views, len(found) + 1))) - set(found.tolist()))
        raise SourceError(
            f"{columns.where}: has rows of view {num_views - 1:,}, and none of view {missing[0]:,}. Number the answers "
            f"of each sample from 0, without a gap, in the column `{VIEW}`."
        )
    row_VN = np.empty((num_views, len(source)), dtype=np.int64)
    for view in range(num_views):
        places = np.flatnonzero(views_N == view)
        of_view = replace(columns, where=f"{columns.where}: view {view}")
        row_VN[view] = places[_by_key(of_view, keys.take(places), source, options)]
    return row_VN


def _by_key(columns: Columns, keys: Keys, source: Source, options: PredictionOptions) -> NDArray[np.int64]:
    if len(set(keys)) < len(keys):
        seen: set[str] = set()
        repeated = [key for key in keys if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
        raise SourceError(
            f"{columns.where}: {len(repeated):,} keys are there more than once: {first_few(repeated)}. Give each "
            f"sample one row; several answers for one sample are counted as `votes`, or are views of it, numbered in a "
            f"column `{VIEW}`."
        )
    row_N = keys.find_in_any_form(Keys(source.keys))
    missing = np.flatnonzero(row_N < 0)
    if len(missing):
        names = first_few([source.keys[index] for index in missing[:5].tolist()])
        raise SourceError(
            f"{columns.where}: has no predictions for {len(missing):,} of the {len(source):,} samples of "
            f"{source.name}: {names}{_looks_like(keys)}. Add them, or import for those that it has, with a file of "
            f"their keys as `source.keys`."
        )
    extra = len(keys) - len(source)
    if extra and options.extra_keys == "refuse":
        is_known = np.zeros(len(keys), dtype=bool)
        is_known[row_N] = True
        foreign = [keys[index] for index in np.flatnonzero(~is_known)[:5].tolist()]
        raise SourceError(
            f"{columns.where}: {extra:,} of its {len(keys):,} keys are of no sample of {source.name}: "
            f"{first_few(foreign)}. Check `source.path`, or leave them out with "
            f"`predictions.extra_keys = leave_out`."
        )
    return row_N


def _looks_like(keys: Keys) -> str:
    return f" (its keys are such as {first_few([keys[index] for index in range(min(len(keys), 3))])})"


def _by_position(columns: Columns, source: Source, options: PredictionOptions) -> NDArray[np.int64]:
    if not options.by_position or columns.content_hashes is None:
        raise SourceError(
            f"{columns.where}: tells no keys, so that which row is which sample's isn't known. Write the samples' keys "
            f"beside them as `{options.key_column}` (in Python, `softlab.open_source(..).keys` in their order), or "
            f"name their column with `predictions.key_column`. Rows in the samples' order are taken with "
            f"`predictions.by_position = true` where a column `content_hash` proves it."
        )
    if columns.num_rows != len(source):
        raise SourceError(
            f"{columns.where}: has {columns.num_rows:,} rows, and {source.name} {len(source):,} samples, so that their "
            f"order tells nothing. Write the samples' keys beside them as `{options.key_column}`."
        )
    return np.arange(len(source), dtype=np.int64)


def _check_contents(columns: Columns, hashes: Sequence[str], source: Source, row_VN: NDArray[np.int64]) -> None:
    """Each sample is read once, whatever its views."""
    for index, rows in enumerate(row_VN.T.tolist()):
        content_hash = source.read(index).content_hash.hex()
        wrong = next((row for row in rows if hashes[row] != content_hash), None)
        if wrong is not None:
            raise StoreMismatch(
                f"{columns.where}: the content hash of its row {wrong + 1:,} is not that of the sample "
                f"{source.keys[index]!r} of {source.name}. Import with the data that the predictions are of."
            )


def dump_options(options: DumpOptions, rows: PredictedRows) -> DumpOptions:
    """Those of the dump that the import is: one output of the predictions' kind. Raises InvalidOption for what only a
    model that is run has, and for temperatures that aren't known."""
    _refuse_what_runs(options)
    if rows.is_top_k:
        options = _of_top_k(options, rows)
    kind, given = "values" if rows.kind == "values" else "classes", parse_output(options.output[0])
    if given.is_sure and given.kind != kind:
        raise InvalidOption(
            f"dump.output = {options.output[0]}: these predictions are {rows.kind}, so their output is of kind {kind}. "
            f"Change `predictions.kind`, or say `dump.output = {given.name}`."
        )
    name = "embedding" if options.output == DumpOptions().output and kind == "values" else given.name
    is_sure = given.is_sure or rows.kind != "logits"
    return replace(options, output=(f"{name}:{kind}" if is_sure else name,))


def check_are_logits(logits_BC: Tensor, wanted: WantedOutput, *, where: str, head: Head) -> None:
    """Raises SourceError for logits that are probabilities, or their logarithms: the softmax of the former is nearly
    uniform, and the latter have no level of their own. Unless the user is sure that these are logits all the same."""
    if wanted.is_sure or head != "softmax" or logits_BC.shape[1] < 2:
        return
    kind = "probabilities" if are_probabilities(logits_BC) else None
    if bool((logits_BC <= 0).all()) and are_probabilities(logits_BC.exp()):
        kind = "log_probabilities"
    if kind is not None:
        raise SourceError(
            f"{where}: its logits are {kind} already: {'they' if kind == 'probabilities' else 'their exponentials'} "
            f"lie in 0..1 and sum to 1 in each row. Say `predictions.kind = {kind}`, or `dump.output = "
            f"{wanted.name}:classes` if they are logits all the same."
        )


def _of_top_k(options: DumpOptions, rows: PredictedRows) -> DumpOptions:
    k = rows.numbers.shape[1]
    if options.temperature not in (DumpOptions().temperature, (1.0,)):
        raise InvalidOption(
            f"dump.temperature = {list(options.temperature)}: of the likeliest {k} classes alone, how much the others "
            f"have is known at T = 1 and nowhere else. Leave `dump.temperature` out."
        )
    if options.k is not None and options.k > k:
        raise InvalidOption(
            f"dump.k = {options.k}: {rows.where} tells {k} classes a row. Choose `dump.k` from 1 to {k}, or leave it "
            f"out."
        )
    return replace(options, temperature=(1.0,), k=options.k or k)


def _refuse_what_runs(options: DumpOptions) -> None:
    default = DumpOptions()
    for name in ("views", "feature", "devices", "valid", "pixel_digests"):
        if getattr(options, name) != getattr(default, name):
            raise InvalidOption(
                f"dump.{name}: is for a teacher that is run, and predictions are one row a sample. Leave "
                f"`dump.{name}` out."
            )
    if len(options.output) > 1:
        raise InvalidOption("dump.output: predictions are one output. Name one, or import several stores.")
