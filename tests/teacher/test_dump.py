# Shape letters: N samples, C classes.

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softlab.errors import (
    DamagedShards,
    InvalidOption,
    StoreError,
    StoreExists,
    StoreMismatch,
    TeacherError,
    UnreadableSample,
)
from softlab.identity import source_fingerprint
from softlab.labels.coding import Coding
from softlab.modalities.opening import open_source
from softlab.sources.options import SourceOptions
from softlab.store.folder import count_finished_shards, is_unfinished
from softlab.store.format import FormatName
from softlab.store.verify import verify_store
from softlab.teacher.dump import DumpSummary
from softlab.teacher.dump_progress import DumpProgress
from softlab.teacher.options import DumpOptions
from tests.sources.pictures import animals, truncated_png, write_folder
from tests.store.building import CODINGS, FORMATS, contents, flip_byte
from tests.teacher.dumping import (
    NUM_CLASSES,
    AfraidOfTheDark,
    Pictures,
    assert_same_labels,
    dump,
    expected_labels,
    forward_of,
    make_options,
    make_teacher,
    read_all,
    stop_at,
)

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
FEATURES = {"map": "conv", "pooled": "relu:mean"}


def seen_by_hook(layer: str, options: DumpOptions) -> Tensor:
    """A layer's output on all pictures, by a plain forward hook."""
    teacher, seen = make_teacher(), []
    teacher.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    forward_of(teacher, Pictures(), options)
    return torch.cat(seen)


def interrupted(out: Path, options: DumpOptions | None = None, *, rows: int = 33) -> None:
    """A dump that was stopped after its first shards: with 33 rows, two of four."""
    with pytest.raises(KeyboardInterrupt):
        dump(out, options, on_progress=stop_at(rows))


def rewrite(path: Path, found: bytes, wanted: bytes) -> None:
    """Of a document."""
    data = path.read_bytes()
    assert found in data
    path.write_bytes(data.replace(found, wanted, 1))


def without_files(record: Path) -> None:
    tree = json.loads(record.read_bytes())
    tree["shard"]["files"] = []
    record.write_text(json.dumps(tree))


def with_one_weight_changed() -> nn.Module:
    teacher = make_teacher()
    with torch.no_grad():
        teacher.get_submodule("classifier").get_parameter("weight")[0, 0] += 1e-6
    return teacher


# What a store holds.


@BOTH_FORMATS
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("k", [1, 5, NUM_CLASSES])
def test_stored_labels_are_the_top_k_of_the_modules_own_forward(
    tmp_path: Path, format: FormatName, coding: Coding, k: int
) -> None:
    options = make_options(k=k, coding=coding, format=format)

    dump(tmp_path / "store", options)

    logits_NC = forward_of(make_teacher(), Pictures(), options)
    assert_same_labels(read_all(tmp_path / "store")[1], expected_labels(logits_NC, options, k=k))


def test_without_coding_loss_labels_are_the_teachers_to_the_bit(tmp_path: Path) -> None:
    options = make_options(k=NUM_CLASSES, coding="float32")

    dump(tmp_path / "store", options)

    _, labels = read_all(tmp_path / "store")
    logits_NC = (labels.logits_BK + labels.max_logit_B[:, None]).scatter(1, labels.class_ids_BK, labels.logits_BK)
    expected_NC = forward_of(make_teacher(), Pictures(), options)
    torch.testing.assert_close(logits_NC, expected_NC - expected_NC.max(dim=1, keepdim=True).values, rtol=0, atol=0)


@BOTH_FORMATS
def test_stored_features_are_those_of_a_plain_forward_hook(tmp_path: Path, format: FormatName) -> None:
    options = make_options(format=format, feature=FEATURES)

    dump(tmp_path / "store", options)

    store, _ = read_all(tmp_path / "store")
    for name, expected in [
        ("map", seen_by_hook("conv", options)),
        ("pooled", seen_by_hook("relu", options).mean(dim=(2, 3))),
    ]:
        found = store.read_features(name, np.arange(50))
        torch.testing.assert_close(found, expected.half().float(), rtol=0, atol=0)


def test_statistics_are_what_a_dense_count_gives(tmp_path: Path) -> None:
    targets_N = np.arange(50) % NUM_CLASSES
    targets_N[:4] = -1
    logits_NC = forward_of(make_teacher(), Pictures(), make_options())
    targets_N[4:24] = logits_NC.argmax(dim=1)[4:24]

    statistics = dump(tmp_path / "store", source=Pictures(targets_N=targets_N)).manifest.statistics

    hits = (logits_NC.argmax(dim=1).numpy() == targets_N)[4:]
    masses = [(logits_NC.double() / t).softmax(dim=1).topk(5).values.sum(dim=1).mean().item() for t in (1, 2, 4)]
    assert (statistics["logits"].rows, statistics["logits"].rows_with_target, statistics["logits"].correct) == (
        50,
        46,
        hits.sum(),
    )
    assert statistics["logits"].accuracy == pytest.approx(hits.mean())
    assert statistics["logits"].mean_captured_mass == pytest.approx(masses)


def test_a_teacher_of_other_classes_than_the_source_has_no_accuracy(tmp_path: Path) -> None:
    """1,000 classes on a data set of ten: class 3 of one is not class 3 of the other."""
    source = Pictures(class_names=tuple("abcdefghij"), targets_N=np.zeros(50, dtype=np.int64))

    manifest = dump(tmp_path / "store", teacher=make_teacher(num_classes=1000), source=source).manifest

    assert manifest.statistics["logits"].accuracy is None
    assert manifest.statistics["logits"].rows_with_target == 0
    assert (manifest.classes[0].label_space.num_classes, manifest.classes[0].label_space.class_names) == (1000, None)
    assert read_all(tmp_path / "store")[0].read_samples().targets_N is not None  # they stay in the sample table


def test_samples_are_told_by_key_target_and_content(tmp_path: Path) -> None:
    source = Pictures(targets_N=np.arange(50) % NUM_CLASSES)

    manifest = dump(tmp_path / "store", source=source).manifest

    samples = read_all(tmp_path / "store")[0].read_samples()
    hashes = [source.read(number).content_hash for number in range(50)]
    assert list(samples.keys) == list(source.keys)
    assert list(samples.content_hashes) == hashes
    assert samples.targets_N is not None
    assert samples.targets_N.tolist() == (np.arange(50) % NUM_CLASSES).tolist()
    assert manifest.source_fingerprint == source_fingerprint(source.keys, hashes)


def test_samples_that_were_skipped_are_in_the_manifest(tmp_path: Path) -> None:
    root = write_folder(animals(tmp_path / "animals", per_class=3), {"cat/1.png": truncated_png()})
    source = open_source(SourceOptions(path=str(root), skip_unreadable=True))
    assert len(source) == 5

    manifest = dump(tmp_path / "store", source=source).manifest

    assert [skipped.key for skipped in manifest.source.skipped] == ["cat/1.png"]
    assert "truncated" in manifest.source.skipped[0].reason
    assert "cat/1.png" not in read_all(tmp_path / "store")[0].read_samples().keys


def test_a_sample_that_can_not_be_read_stops_the_dump_with_what_to_do(tmp_path: Path) -> None:
    root = write_folder(animals(tmp_path / "animals", per_class=12), {"dog/9.png": truncated_png()})
    source = open_source(SourceOptions(path=str(root)))

    with pytest.raises(UnreadableSample, match=r"`source\.skip_unreadable = true`"):
        dump(tmp_path / "store", make_options(shard_rows=8), source=source)

    assert count_finished_shards(tmp_path / "store") == 2


# Shards.


@BOTH_FORMATS
@pytest.mark.parametrize("shard_rows", [1, 7, 16, 49, 50, 64, None])
def test_shard_boundaries_change_no_value(tmp_path: Path, format: FormatName, shard_rows: int | None) -> None:
    """Batches end where shards end, so that a forward pass may round its last bit otherwise."""
    options = make_options(shard_rows=shard_rows, format=format, coding="float32")

    dump(tmp_path / "store", options)

    _, labels = read_all(tmp_path / "store")
    expected = expected_labels(forward_of(make_teacher(), Pictures(), options), options, k=5)
    assert_same_labels(labels, expected)
    whole = expected_labels(forward_of(make_teacher(), Pictures(), make_options(shard_rows=None)), options, k=5)
    torch.testing.assert_close(labels.class_ids_BK, whole.class_ids_BK)
    torch.testing.assert_close(labels.logits_BK, whole.logits_BK)
    assert verify_store(tmp_path / "store").is_intact


def test_a_source_of_one_sample_makes_a_store(tmp_path: Path) -> None:
    dump(tmp_path / "store", source=Pictures(count=1))

    assert len(read_all(tmp_path / "store")[1]) == 1


@pytest.mark.process
def test_workers_change_no_byte(tmp_path: Path) -> None:
    dump(tmp_path / "alone")
    dump(tmp_path / "two", make_options(workers=2))

    assert contents(tmp_path / "two") == contents(tmp_path / "alone")


def test_progress_counts_every_row_once(tmp_path: Path) -> None:
    seen: list[DumpProgress] = []

    summary = dump(tmp_path / "store", on_progress=seen.append)

    assert [progress.rows for progress in seen] == [8, 16, 24, 32, 40, 48, 50]
    assert {progress.total_rows for progress in seen} == {50}
    assert summary.rows_computed == 50
    files = summary.manifest.files
    assert summary.bytes_per_row == sum(file.bytes for file in files) / 50
    assert (
        summary.label_bytes_per_row == sum(file.bytes for file in files if file.path.startswith("outputs/logits/")) / 50
    )


# Going on after an interruption.


@BOTH_FORMATS
@pytest.mark.parametrize("rows", [1, 17, 33, 50])
def test_a_dump_that_was_interrupted_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, format: FormatName, rows: int
) -> None:
    options = make_options(format=format, feature=FEATURES)
    dump(tmp_path / "undisturbed", options)
    interrupted(tmp_path / "store", options, rows=rows)
    assert is_unfinished(tmp_path / "store")
    seen: list[DumpProgress] = []

    summary = dump(tmp_path / "store", options, on_progress=seen.append)

    done = 16 * (rows // 16) if rows < 50 else 48
    assert summary.rows_computed == 50 - done
    assert seen[0].rows == min(done + 8, 50)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_an_interruption_tells_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        dump(tmp_path / "store", on_progress=stop_at(33))

    assert str(stopped.value) == (
        f"{tmp_path / 'store'}: stopped with 2 of 4 shards finished. Run the same command again to go on."
    )


def test_a_finished_dump_returns_at_once(tmp_path: Path) -> None:
    first = dump(tmp_path / "store")
    before = contents(tmp_path / "store")

    again = dump(tmp_path / "store", on_progress=lambda progress: pytest.fail("it ran again"))

    assert (again.rows_computed, again.rows_per_second) == (0, None)
    assert (again.manifest, again.digest) == (first.manifest, first.digest)
    assert contents(tmp_path / "store") == before


def test_a_finished_dump_over_a_sample_that_changed_is_refused_by_its_key(tmp_path: Path) -> None:
    dump(tmp_path / "store")

    with pytest.raises(StoreMismatch, match=r"sample '0007.png' of .* is not what the teacher saw"):
        dump(tmp_path / "store", source=Pictures(black=frozenset({7})))


CHANGES: dict[str, tuple[Callable[[Path], DumpSummary], str]] = {
    "one weight": (
        lambda out: dump(out, teacher=with_one_weight_changed()),
        "(`teacher.weights`) was ",
    ),
    "one sample more": (lambda out: dump(out, source=Pictures(count=51)), "the number of samples was 50, is now 51"),
    "another source": (
        lambda out: dump(out, source=Pictures(name="other")),
        "(`source.path`) was 'memory:pictures'",
    ),
    "class names": (
        lambda out: dump(out, source=Pictures(class_names=None)),
        "the list of classes was ['class 0'",
    ),
    "k": (lambda out: dump(out, make_options(k=6)), "`dump.k` was 5, is now 6"),
    "head": (
        lambda out: dump(out, make_options(head="sigmoid")),
        "`dump.head` was 'softmax', is now 'sigmoid'",
    ),
    "coding": (lambda out: dump(out, make_options(coding="uint8")), "`dump.coding` was 'float16', is now 'uint8'"),
    "temperatures": (
        lambda out: dump(out, make_options(temperature=(1.0, 3.0))),
        "`dump.temperature` was [1.0, 2.0, 4.0], is now [1.0, 3.0]",
    ),
    "a feature": (
        lambda out: dump(out, make_options(feature={"pooled": "relu:mean"})),
        "the list of outputs was ['logits'], is now ['logits', 'pooled']",
    ),
    "precision": (
        lambda out: dump(out, make_options(autocast="bfloat16")),
        "the precision (`device.autocast`) was 'float32', is now 'bfloat16'",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_going_on_with_something_else_is_refused_with_the_difference(tmp_path: Path, change: str) -> None:
    out = tmp_path / "store"
    interrupted(out)
    before = contents(out)
    resume, difference = CHANGES[change]

    with pytest.raises(StoreMismatch, match=re.escape(difference)) as refused:
        resume(out)

    assert "Repeat the first command to go on with it, or choose another `out`." in str(refused.value)
    assert contents(out) == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_finished_store_of_something_else_is_refused_with_the_difference(tmp_path: Path, change: str) -> None:
    dump(tmp_path / "store")
    before = contents(tmp_path / "store")
    again, difference = CHANGES[change]

    with pytest.raises(StoreExists, match=re.escape(difference)):
        again(tmp_path / "store")

    assert contents(tmp_path / "store") == before


def test_a_sample_that_changed_meanwhile_is_refused_by_its_key(tmp_path: Path) -> None:
    interrupted(tmp_path / "store")

    with pytest.raises(StoreMismatch, match=r"sample '0007.png' of .* is not what the teacher saw") as refused:
        dump(tmp_path / "store", source=Pictures(black=frozenset({7})))

    assert "Restore the data, or choose another `out`." in str(refused.value)
    assert count_finished_shards(tmp_path / "store") == 2


def test_a_shard_that_was_damaged_meanwhile_is_told_and_then_written_anew(tmp_path: Path) -> None:
    options = make_options(format="parquet")
    dump(tmp_path / "undisturbed", options)
    interrupted(tmp_path / "store", options)
    flip_byte(tmp_path / "store/outputs/logits/view=00000/part-00001.parquet")

    with pytest.warns(
        DamagedShards, match="the finished shard view-00000-part-00001 is not what was written, and is comp"
    ):
        summary = dump(tmp_path / "store", options)

    assert summary.rows_computed == 34, "told before the first row was computed"
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("path", "damage"),
    [
        ("outputs/logits/view=00000/part-00001.parquet", flip_byte),
        ("commits/view-00000-part-00001.hashes", flip_byte),
        ("commits/view-00000-part-00001.json", lambda path: rewrite(path, b'"correct": 0', b'"correct": 9')),
        ("commits/view-00000-part-00001.json", lambda path: rewrite(path, b'"stop": 32', b'"stop": 33')),
        ("commits/view-00000-part-00001.json", without_files),
        ("commits/view-00000-part-00001.json", lambda path: path.write_bytes(path.read_bytes()[:-100])),
        ("commits/view-00000-part-00001.json", lambda path: shutil.copy(path.with_stem("view-00000-part-00002"), path)),
    ],
    ids=["data", "hashes", "digit", "place", "no files", "cut", "another's"],
)
def test_exactly_the_damaged_shard_is_computed_anew_and_told(
    tmp_path: Path, path: str, damage: Callable[[Path], object]
) -> None:
    options = make_options(format="parquet")
    dump(tmp_path / "undisturbed", options)
    interrupted(tmp_path / "store", options, rows=50)
    damage(tmp_path / "store" / path)

    with pytest.warns(DamagedShards, match="the finished shard view-00000-part-00001 is not what was written") as told:
        summary = dump(tmp_path / "store", options)

    assert (summary.rows_computed, len(told)) == (18, 1), "16 of the damaged shard, 2 of the last one"
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_a_plan_in_which_a_digit_has_changed_is_refused_and_what_is_told_to_do_helps(tmp_path: Path) -> None:
    options = make_options(coding="uint8")
    dump(tmp_path / "undisturbed", options)
    interrupted(tmp_path / "store", options)
    rewrite(tmp_path / "store/commits/plan.json", b'"gap_step": 0.', b'"gap_step": 1.')

    with pytest.raises(StoreError, match=f"plan.json: .* Remove {tmp_path / 'store'} and dump again"):
        dump(tmp_path / "store", options)

    shutil.rmtree(tmp_path / "store")
    dump(tmp_path / "store", options)
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_a_damaged_list_of_samples_is_written_anew(tmp_path: Path) -> None:
    dump(tmp_path / "undisturbed")
    interrupted(tmp_path / "store")
    flip_byte(tmp_path / "store/commits/samples.parquet", position=40)

    assert dump(tmp_path / "store").rows_computed == 18
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


# What is refused.


def test_a_dump_that_failed_keeps_its_shards_and_goes_on_when_the_cause_is_gone(tmp_path: Path) -> None:
    source = Pictures(black=frozenset({40}))
    dump(tmp_path / "undisturbed", teacher=AfraidOfTheDark(0.0), source=source)

    with pytest.raises(TeacherError, match=re.escape("Shards before this one are kept.")):
        dump(tmp_path / "store", teacher=AfraidOfTheDark(float("nan")), source=source)
    summary = dump(tmp_path / "store", teacher=AfraidOfTheDark(0.0), source=source)

    assert summary.rows_computed <= 18
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def test_more_logits_than_classes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=re.escape("Choose `dump.k` from 1 to 20.")):
        dump(tmp_path / "store", make_options(k=21))

    assert not (tmp_path / "store").exists()


# On a GPU.


@pytest.mark.gpu
@BOTH_FORMATS
def test_a_store_from_cuda_is_that_of_the_cpu_within_rounding(tmp_path: Path, format: FormatName) -> None:
    for device in ("cpu", "cuda"):
        dump(tmp_path / device, make_options(device=device, format=format, coding="float32", feature=FEATURES))

    (cpu, expected), (cuda, found) = read_all(tmp_path / "cpu"), read_all(tmp_path / "cuda")
    assert found.class_ids_BK.equal(expected.class_ids_BK)
    for name in ("logits_BK", "log_tail_BT", "max_logit_B"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-3, atol=1e-3)
    for name in FEATURES:
        torch.testing.assert_close(
            cuda.read_features(name, np.arange(50)), cpu.read_features(name, np.arange(50)), rtol=2e-3, atol=2e-3
        )
    assert verify_store(tmp_path / "cuda").is_intact
