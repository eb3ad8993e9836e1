"""Import what a model said elsewhere: predictions become a store like that of a dump."""

import warnings
from pathlib import Path

import msgspec
from msgspec import UNSET
from torch import nn

from softlab.errors import OddPredictions
from softlab.loading.order import spread_out
from softlab.manifest import ClassesRecord, ImportedRecord, StorePlan, check_plan
from softlab.modalities.modality import DEFAULT_MODALITY, find_modality
from softlab.modalities.views import NoViews, record_views
from softlab.predictions.options import PredictionOptions
from softlab.predictions.read import Predictions, name_of, read_predictions
from softlab.predictions.rows import rows_of
from softlab.ranks import Ranks
from softlab.remote.remote import Place
from softlab.sources.source import Source
from softlab.store.place import place_of
from softlab.teacher.candidate_scores import check_candidates, with_fewer_classes
from softlab.teacher.dump import DumpSummary, carry_out
from softlab.teacher.dump_progress import OnProgress
from softlab.teacher.dumped_views import Settled, ViewsToDump, read_settled
from softlab.teacher.example import check_classes
from softlab.teacher.forward import TeacherOutput
from softlab.teacher.imported import ImportedTeacher, Lookup, check_are_logits, dump_options, match_rows
from softlab.teacher.job import DumpJob
from softlab.teacher.label_classes import find_other_classes
from softlab.teacher.options import DumpOptions
from softlab.teacher.plan import make_plan
from softlab.teacher.planning import with_teachers_classes
from softlab.teacher.selections import TopK, some_logits

LOOKED_AT = 256
"""Samples whose predictions tell K, and the step of a coding."""


def import_predictions(
    predictions: Predictions,
    source: Source,
    out: str | Path,
    options: PredictionOptions | None = None,
    *,
    dump: DumpOptions | None = None,
    class_names: tuple[str, ...] | None = None,
    modality: str = DEFAULT_MODALITY,
    on_progress: OnProgress | None = None,
) -> DumpSummary:
    """A finished store at `out` with the predictions of a model that softlab doesn't run, for every sample of a source.

        source = softlab.open_source("pets/train")
        softlab.import_predictions("predictions.parquet", source, "runs/pets.zarr")

    `predictions` is a file (Parquet, CSV, npz, JSONL), or an iterable of batches of arrays by name. Each row belongs to
    the sample of its key; of several answers for one, numbered in a column `view`, each is a view of it. `class_names`
    are those of the predictions, in their order, where they don't tell them. The store trains students as any other; an
    interrupted import goes on when the same call is made again.

    The whole file is held in memory. Raises SourceError for predictions that are damaged, aren't what they are said to
    be, or have other keys than the source; InvalidOption, and as `dump_teacher` what comes of writing. Warns with
    OddPredictions where rows tell less than others, and with OddLabels as `dump_teacher`."""
    options, dump = options or PredictionOptions(), dump or DumpOptions()
    columns, digest = read_predictions(predictions, options, class_names=class_names or source.class_names)
    rows = rows_of(columns, options, head=dump.head, class_names=class_names)
    for note in rows.notes:
        warnings.warn(note, OddPredictions, stacklevel=2)
    row_VN, run_options = match_rows(columns, source, options), dump_options(dump, rows)
    if options.candidate_fields:
        run_options = with_fewer_classes(run_options, rows)
        check_candidates(rows, source, row_VN, fields=options.candidate_fields)
    teacher = ImportedTeacher(
        module=nn.Module(),
        name=f"import:{name_of(predictions)}",
        arguments={},
        input=find_modality(modality).input_options(),
        class_names=rows.class_names,
        rows=rows,
        row_VN=row_VN,
        fingerprint=digest,
    )
    run = Lookup(teacher=teacher, options=run_options)
    source = with_teachers_classes(source, teacher)
    place = place_of(out)
    plan = _plan(run, source, place)
    job = DumpJob(
        out=place,
        plan=plan,
        teacher=teacher,
        source=source,
        options=run.options,
        of_other_classes=find_other_classes(run.first_classes, source, plan, run.options),
    )
    return carry_out(job, run, Ranks(), on_progress=on_progress)


def _plan(run: Lookup, source: Source, out: Place) -> StorePlan:
    """That of a dump, but for what isn't known of a model that ran elsewhere."""
    teacher, settled = run.teacher, read_settled(out)
    views = ViewsToDump(record=record_views(NoViews(), num_views=len(teacher.row_VN), digest_every=0))
    plan = make_plan(
        teacher,
        source,
        run.options,
        views,
        example=_example(run, source, settled),
        weights=teacher.fingerprint,
        settled=settled,
    )
    plan = msgspec.structs.replace(
        plan,
        teacher=msgspec.structs.replace(plan.teacher, imported=_record(teacher)),
        inputs=tuple(msgspec.structs.replace(each, options={}, decode=UNSET) for each in plan.inputs),
        outputs=tuple(
            msgspec.structs.replace(
                each,
                absolute=teacher.rows.is_absolute or each.head == "sigmoid",
                interpolates=False if teacher.rows.is_top_k and each.selection.k < teacher.rows.num_classes else UNSET,
            )
            if isinstance(each, ClassesRecord)
            else each
            for each in plan.outputs
        ),
    )
    check_plan(plan)
    return plan


def _record(teacher: ImportedTeacher) -> ImportedRecord:
    return ImportedRecord(kind=teacher.rows.kind, is_top_k=teacher.rows.is_top_k, file=teacher.fingerprint)


def _example(run: Lookup, source: Source, settled: Settled) -> TeacherOutput:
    """Of samples from all over the source. Raises TeacherError for what looks like no logits over classes."""
    some = run.teacher.row_VN[0, spread_out(len(source), count=min(LOOKED_AT, len(source))).source_B]
    rows, (wanted,) = run.teacher.rows, run.options.wanted_outputs
    if rows.is_top_k:
        assert run.options.k is not None, "as the options were made for these rows"
        return run.look_up(some, selections={wanted.name: TopK(k=run.options.k)})
    whole = run.whole(some)
    if rows.kind == "logits":
        check_are_logits(some_logits(whole.logits[wanted.name]), wanted, where=rows.where, head=run.options.head)
    return run.look_up(some, selections=check_classes(whole, run.options, settled))
