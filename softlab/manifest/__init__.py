"""The manifest: the immutable description of a store, and the only place that says which files belong to it."""

from softlab.manifest.differences import differences, tell_differences
from softlab.manifest.document import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    check_plan,
    decode_manifest,
    encode,
)
from softlab.manifest.outputs import (
    ClassesRecord,
    CodingRecord,
    LabelSpaceRecord,
    OutputRecord,
    SampledRecord,
    Selection,
    SelectionRecord,
    TokensReadRecord,
    ValuesRecord,
)
from softlab.manifest.precisions import precision_of_each, samples_by_precision, spans_of, with_precision
from softlab.manifest.records import ENTRIES, SAMPLES, Manifest, StorePlan
from softlab.manifest.sample_parts import FurtherSamplesRecord, version_for, version_to_go_on
from softlab.manifest.seen import (
    InputRecord,
    MixingRecord,
    SkippedRecord,
    SourceRecord,
    TransformRecord,
    ViewsRecord,
    views_fingerprint,
)
from softlab.manifest.statistics import Statistics, add_up
from softlab.manifest.storage import (
    FieldRecord,
    FileRecord,
    PrecisionRecord,
    ShardRecord,
    StorageRecord,
    TokensRecord,
    add_up_by_output,
)
from softlab.manifest.teacher import ImportedRecord, TeacherRecord
from softlab.manifest.under_way import BegunPlan, OwnHash, begin, decode_begun, decode_under_way
from softlab.manifest.value_types import Record
from softlab.manifest.version1 import in_version_1, in_version_2

__all__ = [
    "ENTRIES",
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "MAX_MANIFEST_BYTES",
    "SAMPLES",
    "BegunPlan",
    "ClassesRecord",
    "CodingRecord",
    "FieldRecord",
    "FileRecord",
    "FurtherSamplesRecord",
    "ImportedRecord",
    "InputRecord",
    "LabelSpaceRecord",
    "Manifest",
    "MixingRecord",
    "OutputRecord",
    "OwnHash",
    "PrecisionRecord",
    "Record",
    "SampledRecord",
    "Selection",
    "SelectionRecord",
    "ShardRecord",
    "SkippedRecord",
    "SourceRecord",
    "Statistics",
    "StorageRecord",
    "StorePlan",
    "TeacherRecord",
    "TokensReadRecord",
    "TokensRecord",
    "TransformRecord",
    "ValuesRecord",
    "ViewsRecord",
    "add_up",
    "add_up_by_output",
    "begin",
    "check_plan",
    "decode_begun",
    "decode_manifest",
    "decode_under_way",
    "differences",
    "encode",
    "in_version_1",
    "in_version_2",
    "precision_of_each",
    "samples_by_precision",
    "spans_of",
    "tell_differences",
    "version_for",
    "version_to_go_on",
    "views_fingerprint",
    "with_precision",
]
