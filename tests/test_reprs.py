"""What a person sees who looks at a thing in a notebook: one line that tells what it is."""

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import softlab
from softlab.evaluation.evaluation import Evaluation
from softlab.evaluation.metrics.per_class import ClassFigures
from softlab.manifest import Manifest, OutputRecord, SelectionRecord, ValuesRecord
from softlab.modalities.images.inputs import ImageInput
from softlab.sources.folder import open_folder
from softlab.sources.source import SkippedSample
from softlab.sources.subset import first
from softlab.student.run_folder import StudentResult
from tests.manifests import LABELS, make_manifest
from tests.sharing.records import make_tag, make_version
from tests.sources.pictures import animals, image_rows, write_parquet
from tests.store.unit_stores import make_unit_plan
from tests.teacher.dumping import Pictures, dump, make_options, make_teacher

COARSE = msgspec.structs.replace(
    LABELS, name="coarse", head="sigmoid", selection=SelectionRecord(k=5, temperatures=(1.0, 4.0))
)
EMBEDDING = ValuesRecord(name="pooled", taken_from="layer:layer4:mean")


def store_of(manifest: Manifest, *, name: str = "runs/pets.zarr") -> softlab.Store:
    return softlab.Store(Path(name), manifest, "0" * 64, cache=softlab.CacheOptions())


# Stores and soft labels.


@pytest.mark.parametrize(
    ("outputs", "contents"),
    [
        ((LABELS,), "K=3 of 5, softmax"),
        ((LABELS, EMBEDDING), "logits: K=3 of 5, softmax; pooled: values [8x2]"),
        ((LABELS, COARSE), "logits: K=3 of 5, softmax; coarse: K=5 of 5, sigmoid"),
        ((EMBEDDING,), "pooled: values [8x2]"),
    ],
    ids=["one output", "with a feature", "two outputs", "values alone"],
)
def test_a_store_and_its_manifest_tell_how_much_of_what_they_hold(
    outputs: tuple[OutputRecord, ...], contents: str
) -> None:
    manifest = make_manifest(outputs=outputs)

    assert repr(store_of(manifest)) == f"Store(pets.zarr, 10 samples, 2 views, {contents})"
    assert repr(manifest) == f"Manifest(torchvision:resnet18 on folder:pets, 10 samples, 2 views, {contents})"


def test_a_large_store_is_as_short_and_is_counted_in_samples() -> None:
    source = msgspec.structs.replace(make_manifest().source, num_samples=1_281_167)
    space = msgspec.structs.replace(LABELS.label_space, num_classes=1000)
    labels = msgspec.structs.replace(LABELS, label_space=space)
    store = store_of(make_manifest(source=source, outputs=(labels,)), name="/data/labels/imagenet-vit-l")

    assert repr(store) == "Store(imagenet-vit-l, 1,281,167 samples, 2 views, K=3 of 1000, softmax)"
    assert len(store) == store.num_samples == 1_281_167


def test_a_store_with_a_row_for_each_unit_says_so() -> None:
    assert make_unit_plan([2, 0, 3], num_views=1).in_a_line == (
        "3 samples, 1 view, states: values [3x2], a row for each unit; "
        "tokens: K=4 of 9, softmax, a row for each unit; pooled: values [5]"
    )


def test_a_published_store_has_its_name_and_version() -> None:
    store = store_of(make_manifest(outputs=(LABELS,)))
    store.name = "s3://bucket/labels/pets@3"

    assert repr(store).startswith("Store(pets@3, 10 samples")


def test_soft_labels_tell_their_rows_and_temperatures(tmp_path: Path) -> None:
    dump(tmp_path / "store", make_options(temperature=(1.0, 2.0, 4.0)), source=Pictures(count=20))
    labels = softlab.open_store(tmp_path / "store").read(range(20))
    counts = replace(labels, counts_B=labels.class_ids_BK.new_tensor([18, 2]))

    assert repr(labels) == "SoftLabels(20 rows, K=5 of 20, softmax, T = 1, 2, 4)"
    assert repr(counts) == "SoftLabels(20 rows of 2 samples, K=5 of 20, softmax, T = 1, 2, 4)"
    assert repr(labels.to("meta")).endswith("T = 1, 2, 4, on meta)")


# Sources and teachers.


def test_a_source_tells_its_samples_and_classes(tmp_path: Path) -> None:
    folder = softlab.open_source(animals(tmp_path / "animals"))
    parquet = softlab.open_source(write_parquet(tmp_path / "a.parquet", image_rows(3), labels=[0, 1, 1]))
    unlabelled = softlab.open_source(write_parquet(tmp_path / "b.parquet", image_rows(1)))
    fake = softlab.SourceOptions(path="torchvision:FakeData", arguments={"size": 2})

    assert repr(folder) == "FolderSource(folder:animals, 4 samples, 2 classes)"
    assert repr(first(folder, 3)) == "Subset(folder:animals, 3 of 4 samples, 2 classes)"
    assert repr(parquet) == "ParquetSource(parquet:a.parquet, 3 samples, hard targets label)"
    assert repr(unlabelled) == "ParquetSource(parquet:b.parquet, 1 sample, no hard targets)"
    assert repr(softlab.open_source(fake)) == "TorchvisionSource(torchvision:FakeData, 2 samples, no hard targets)"


def test_a_source_tells_what_was_left_out(tmp_path: Path) -> None:
    source = replace(open_folder(animals(tmp_path)), skipped=(SkippedSample(key="a", reason="cut off"),))

    assert repr(source).endswith(", 4 samples, 2 classes, 1 skipped)")


def test_a_teacher_tells_its_size_and_what_it_sees() -> None:
    teacher = softlab.Teacher(module=make_teacher(), name="my:net", arguments={}, input=ImageInput())

    assert repr(teacher) == "Teacher(my:net, 1,036 parameters, images)"


# Work and what came of it.


def test_a_job_tells_its_shards_and_its_place_and_a_dump_what_it_wrote(tmp_path: Path) -> None:
    teacher = softlab.Teacher(module=make_teacher(), name="my:net", arguments={}, input=ImageInput())
    job = softlab.plan_dump(teacher, Pictures(), tmp_path / "store", make_options())
    summary = dump(tmp_path / "store", make_options(), teacher=teacher)

    assert repr(job) == f"DumpJob({tmp_path / 'store'}, 4 shards, my:net on memory:pictures)"
    assert re.fullmatch(
        rf"DumpSummary\({re.escape(str(tmp_path / 'store'))}, 50 rows of [0-9.]+ bytes, 50 computed in [0-9.]+ s, "
        rf"digest {summary.digest[:12]}\)",
        repr(summary),
    )


def test_an_evaluation_tells_its_figures() -> None:
    evaluation = Evaluation(rows=2000, values={"accuracy": 0.79144, "teacher_kl": 0.1234, "of another version": 7.0})
    figures = ClassFigures(name="cat", samples=1, predicted=1, correct=1, recall=1.0, precision=1.0)

    told = "accuracy 79.14%, KL to the teacher, all classes 0.1234 nats, of another version 7"
    assert repr(evaluation) == f"Evaluation(2,000 rows, {told})"
    assert repr(msgspec.structs.replace(evaluation, classes=(figures,))).endswith("7, 1 classes one by one)")


def test_a_student_tells_how_good_it_became_or_why_it_was_set_aside() -> None:
    result = StudentResult(
        name="small",
        num_parameters=24_058,
        train_loss=0.51234,
        last=Evaluation(rows=10, values={"accuracy": 0.79}),
        best=Evaluation(rows=10, values={"accuracy": 0.8}),
        best_by="accuracy",
        seconds=12.34,
    )
    failed = msgspec.structs.replace(result, train_loss=None, last=None, best=None, error="TrainingFailed: its loss")

    assert repr(result) == (
        "StudentResult(small, 24,058 parameters, train loss 0.5123, accuracy 79.00%, best accuracy 80.00%, 12.3 s)"
    )
    assert repr(failed) == ("StudentResult(small, 24,058 parameters, set aside: TrainingFailed: its loss, 12.3 s)")


def test_a_report_of_a_check_counts_what_is_wrong() -> None:
    report = softlab.VerifyReport(digest="0123456789abcdef", num_files=12, num_bytes=1_200_000)

    assert repr(report) == "VerifyReport(intact, 12 files, 1.2 MB, digest 0123456789ab)"
    assert repr(replace(report, damaged=["a", "b"], foreign=["c"])).startswith("VerifyReport(2 damaged, 1 foreign, 12")


def test_a_catalogue_counts_its_versions() -> None:
    versions = (make_version("pets", 1), make_version("pets", 2), make_version("cars", 1))
    catalog = softlab.Catalog(root="s3://bucket/labels", versions=versions, tags=(make_tag("pets", "latest", 2),))

    assert repr(catalog) == "Catalog(s3://bucket/labels, 3 versions of 2 stores)"
