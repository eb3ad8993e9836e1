"""Predictions become a store like that of a dump: the same bits, the same safety, and no more than is known of them."""

# Shape letters: N samples, C classes, K entries of a row.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec import UNSET
from numpy.typing import NDArray

from softlab.errors import InvalidOption, OddLabels, SoftlabError, SourceError, StoreMismatch
from softlab.labels.values_coding import ValuesCoding
from softlab.manifest import ImportedRecord
from softlab.predictions.options import PredictionOptions
from softlab.store.cache import CacheOptions
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from softlab.teacher.dump import DumpSummary
from softlab.teacher.import_predictions import import_predictions
from softlab.teacher.options import DumpOptions
from tests.teacher.dumping import (
    NUM_CLASSES,
    Pictures,
    assert_same_labels,
    dump,
    forward_of,
    make_options,
    make_teacher,
    read_all,
    stop_at,
)

SOURCE = Pictures()
IN_SHARDS = DumpOptions(k=5, shard_rows=16, batch_size=8)


def given_logits() -> NDArray[np.float32]:
    """[N, C], of the small teacher, in the batches of a dump."""
    logits_NC: NDArray[np.float32] = forward_of(make_teacher(), SOURCE, make_options()).numpy()
    return logits_NC


def write(file: Path, arrays: dict[str, Any], *, keys: list[str] | None = None) -> Path:
    """In another order than the samples'."""
    order = np.random.default_rng(1).permutation(len(next(iter(arrays.values()))))
    all_keys = np.array(list(SOURCE.keys) if keys is None else keys)
    named: dict[str, Any] = {name: np.asarray(array)[order] for name, array in arrays.items()}
    np.savez(file, key=all_keys[order], **named)
    return file


def import_(file: Any, out: str | Path, *, source: Pictures = SOURCE, **options: Any) -> DumpSummary:
    dump_options = options.pop("dump", None) or DumpOptions(k=5, shard_rows=16)
    return import_predictions(file, source, out, PredictionOptions(**options), dump=dump_options)


@pytest.mark.parametrize("coding", ["float32", "float16", "uint8"])
def test_a_models_own_logits_are_stored_as_its_dump_stores_them_to_the_bit(coding: Any, tmp_path: Path) -> None:
    options = make_options(coding=coding)
    dump(tmp_path / "dumped", options)
    file = write(tmp_path / "p.npz", {"logits": given_logits()})

    import_(file, tmp_path / "imported", dump=DumpOptions(k=5, shard_rows=16, coding=coding, gap_step=options.gap_step))

    (dumped, expected), (imported, found) = (read_all(tmp_path / name) for name in ("dumped", "imported"))
    assert_same_labels(found, expected)
    assert imported.manifest.source_fingerprint == dumped.manifest.source_fingerprint
    assert imported.manifest.statistics == dumped.manifest.statistics
    files = [
        {each.path: each.blake3 for shard in one.manifest.shards for each in shard.files} for one in (dumped, imported)
    ]
    assert files[0] == files[1]
    assert verify_store(tmp_path / "imported").is_intact


@pytest.mark.process
def test_they_are_imported_straight_to_a_bucket(tmp_path: Path, bucket: str) -> None:
    file = write(tmp_path / "p.npz", {"logits": given_logits()})

    summary = import_(file, f"{bucket}/imported")

    assert summary.digest == import_(file, tmp_path / "imported").digest
    assert verify_store(f"{bucket}/imported").is_intact


def test_what_is_not_known_is_not_said(tmp_path: Path) -> None:
    p_NC = torch.from_numpy(given_logits()).softmax(dim=1).numpy()
    import_(write(tmp_path / "p.npz", {"probabilities": p_NC}), tmp_path / "store")

    manifest = read_all(tmp_path / "store")[0].manifest

    assert manifest.teacher.model == "import:p.npz"
    assert manifest.teacher.num_parameters == 0
    assert isinstance(manifest.teacher.imported, ImportedRecord)
    assert manifest.teacher.imported.kind == "probabilities"
    assert manifest.seen == ()
    assert not manifest.classes[0].absolute
    assert manifest.classes[0].interpolates is UNSET


def test_probabilities_have_the_tails_of_the_logits_behind_them(tmp_path: Path) -> None:
    logits_NC = given_logits()
    options = DumpOptions(k=5, coding="float32")
    p_NC = torch.from_numpy(logits_NC).double().softmax(dim=1).numpy()
    import_(write(tmp_path / "l.npz", {"logits": logits_NC}), tmp_path / "logits", dump=options)
    import_(write(tmp_path / "p.npz", {"probabilities": p_NC}), tmp_path / "p", dump=options)

    (_, expected), (_, found) = (read_all(tmp_path / name) for name in ("logits", "p"))

    assert found.class_ids_BK.tolist() == expected.class_ids_BK.tolist()
    torch.testing.assert_close(found.log_tail_BT, expected.log_tail_BT, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.logits_BK, expected.logits_BK, rtol=1e-4, atol=1e-4)


def test_embeddings_are_a_store_without_classes(tmp_path: Path) -> None:
    vectors_ND = np.random.default_rng(0).normal(size=(len(SOURCE), 12)).astype(np.float32)
    import_(
        write(tmp_path / "v.npz", {"values": vectors_ND}), tmp_path / "store", dump=DumpOptions(values_coding="float32")
    )

    store = read_all_values(tmp_path / "store")

    np.testing.assert_array_equal(store, vectors_ND)


def read_all_values(path: Path) -> NDArray[np.float32]:

    store = open_store(path, cache=CacheOptions(max_bytes=0))
    assert not store.has_labels
    found: NDArray[np.float32] = store.read_features("embedding", np.arange(store.num_samples)).numpy()
    return found


def top_k(k: int) -> dict[str, NDArray[Any]]:
    p_NC = torch.from_numpy(given_logits()).double().softmax(dim=1)
    p_NK, ids_NK = p_NC.topk(k, dim=1)
    return {"class_ids": ids_NK.numpy(), "log_probabilities": p_NK.log().numpy()}


def test_the_likeliest_classes_train_at_temperature_one_alone(tmp_path: Path) -> None:
    import_(write(tmp_path / "p.npz", top_k(4)), tmp_path / "store", num_classes=NUM_CLASSES, dump=DumpOptions())

    store, labels = read_all(tmp_path / "store")

    assert (store.k, store.temperatures, store.num_classes) == (4, (1.0,), NUM_CLASSES)
    assert store.manifest.classes[0].interpolates is False
    with pytest.raises(InvalidOption, match=r"Train at it, with `loss.temperature = 1`"):
        labels.log_tail_at(2.0)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (DumpOptions(temperature=(1.0, 2.0), k=2), "how much the others have is known at T = 1 and nowhere else"),
        (DumpOptions(k=5), "tells 4 classes a row"),
        (DumpOptions(views=2), "dump.views: is for a teacher that is run"),
        (DumpOptions(feature={"a": "b"}), "dump.feature: is for a teacher that is run"),
        (DumpOptions(output=("a", "b")), "predictions are one output"),
        (DumpOptions(output=("a:values",)), "so their output is of kind classes"),
    ],
)
def test_options_that_predictions_can_not_have_are_refused(options: DumpOptions, found: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption) as refused:
        import_(write(tmp_path / "p.npz", top_k(4)), tmp_path / "store", num_classes=NUM_CLASSES, dump=options)

    assert found in str(refused.value)
    assert not (tmp_path / "store").exists()


def test_an_interrupted_import_goes_on_and_a_finished_one_is_left_alone(tmp_path: Path) -> None:
    file, out = write(tmp_path / "p.npz", {"logits": given_logits()}), tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        import_predictions(
            file, SOURCE, out, dump=DumpOptions(k=5, shard_rows=16, batch_size=8), on_progress=stop_at(24)
        )
    digest = import_(file, tmp_path / "at_once").digest

    gone_on = import_(file, out)

    assert 0 < gone_on.rows_computed < len(SOURCE)
    assert gone_on.digest == digest
    assert import_(file, out).rows_computed == 0


def test_a_file_that_changed_does_not_go_on(tmp_path: Path) -> None:
    logits_NC, out = given_logits(), tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        import_predictions(
            write(tmp_path / "p.npz", {"logits": logits_NC}),
            SOURCE,
            out,
            dump=IN_SHARDS,
            on_progress=stop_at(24),
        )
    logits_NC[3] += 1

    with pytest.raises(StoreMismatch, match=r"differently: the hash of the predictions \(`predictions\.path`\) was"):
        import_(write(tmp_path / "p.npz", {"logits": logits_NC}), out)


def without_one(arrays: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return {name: array[1:] for name, array in arrays.items()}, list(SOURCE.keys)[1:]


def with_one_more(arrays: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return {name: np.concatenate([array, array[:1]]) for name, array in arrays.items()}, [*SOURCE.keys, "stranger.png"]


def with_one_twice(arrays: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return arrays, [*list(SOURCE.keys)[:-1], "0000.png"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (without_one, "has no predictions for 1 of the 50 samples of memory:pictures: '0000.png'"),
        (with_one_more, "1 of its 51 keys are of no sample of memory:pictures: 'stranger.png'"),
        (with_one_twice, "1 keys are there more than once: '0000.png'"),
    ],
)
def test_keys_that_are_missing_foreign_or_repeated_are_listed(
    change: Callable[..., tuple[dict[str, Any], list[str]]], found: str, tmp_path: Path
) -> None:
    arrays, keys = change({"logits": given_logits()})

    with pytest.raises(SourceError) as refused:
        import_(write(tmp_path / "p.npz", arrays, keys=keys), tmp_path / "store")

    assert found in str(refused.value)
    assert not (tmp_path / "store").exists()


def in_views(logits_VNC: NDArray[np.float32]) -> tuple[dict[str, Any], list[str]]:
    """All answers one behind the other, each with its number."""
    num_views, num_samples, num_classes = logits_VNC.shape
    arrays = {"logits": logits_VNC.reshape(-1, num_classes), "view": np.repeat(np.arange(num_views), num_samples)}
    return arrays, list(SOURCE.keys) * num_views


def several_answers() -> NDArray[np.float32]:
    """[V, N, C]."""
    return np.stack([given_logits() + shift * np.arange(NUM_CLASSES, dtype=np.float32) for shift in (0, 1, -2)])


def test_several_answers_for_a_sample_are_its_views(tmp_path: Path) -> None:
    logits_VNC = several_answers()
    arrays, keys = in_views(logits_VNC)
    all_classes = DumpOptions(k=NUM_CLASSES, coding="float32", shard_rows=16)

    import_(write(tmp_path / "p.npz", arrays, keys=keys), tmp_path / "store", dump=all_classes)

    store = open_store(tmp_path / "store", cache=CacheOptions(max_bytes=0))
    assert store.num_views == 3
    assert verify_store(tmp_path / "store").is_intact
    for view, logits_NC in enumerate(logits_VNC):
        labels = store.read(range(len(SOURCE)), view=view)
        found_NC = torch.empty(logits_NC.shape).scatter_(1, labels.class_ids_BK.long(), labels.logits_BK)
        torch.testing.assert_close(found_NC.softmax(dim=1), torch.from_numpy(logits_NC).softmax(dim=1))


def test_an_interrupted_import_of_views_goes_on(tmp_path: Path) -> None:
    arrays, keys = in_views(several_answers())
    file, out = write(tmp_path / "p.npz", arrays, keys=keys), tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        import_predictions(file, SOURCE, out, dump=IN_SHARDS, on_progress=stop_at(72))

    gone_on = import_predictions(file, SOURCE, out, dump=IN_SHARDS)

    assert 0 < gone_on.rows_computed < 3 * len(SOURCE)
    assert gone_on.digest == import_predictions(file, SOURCE, tmp_path / "at_once", dump=IN_SHARDS).digest


@pytest.mark.parametrize(
    ("view", "found"),
    [
        ([0] * 50 + [2] * 50, "has rows of view 2, and none of view 1"),
        ([0] * 49 + [1] * 51, "p.npz: view 0: has no predictions for 1 of the 50 samples of memory:pictures"),
        ([0] * 51 + [1] * 49, "p.npz: view 0: 1 keys are there more than once: '0000.png'"),
        ([0] * 50 + [-1] * 50, "its `view` are int64 [100], expected a whole number a row, counted from 0"),
        ([0] * 50 + [1 << 60] * 50, "expected a whole number a row"),
        ([0.0] * 100, "its `view` are float64 [100], expected a whole number a row"),
    ],
)
def test_answers_that_are_not_numbered_are_refused(view: list[Any], found: str, tmp_path: Path) -> None:
    arrays, keys = in_views(several_answers()[:2])

    with pytest.raises(SourceError) as refused:
        import_(write(tmp_path / "p.npz", arrays | {"view": view}, keys=keys), tmp_path / "store")

    assert found in str(refused.value)
    assert not (tmp_path / "store").exists()


def test_foreign_keys_are_left_out_where_that_is_said(tmp_path: Path) -> None:
    arrays, keys = with_one_more({"logits": given_logits()})

    summary = import_(write(tmp_path / "p.npz", arrays, keys=keys), tmp_path / "store", extra_keys="leave_out")

    plain = import_(write(tmp_path / "q.npz", {"logits": given_logits()}), tmp_path / "plain")
    assert summary.manifest.statistics == plain.manifest.statistics


def hashes() -> list[str]:
    return [SOURCE.read(index).content_hash.hex() for index in range(len(SOURCE))]


def test_rows_without_keys_need_a_proof_of_their_order(tmp_path: Path) -> None:
    plain, proven = {"logits": given_logits()}, {"logits": given_logits(), "content_hash": np.array(hashes())}
    swapped = proven | {"content_hash": np.array(hashes()[::-1])}

    with pytest.raises(SourceError, match="tells no keys, so that which row is which sample's isn't known"):
        import_([plain], tmp_path / "store")
    with pytest.raises(SourceError, match="where a column `content_hash` proves it"):
        import_([plain], tmp_path / "store", by_position=True)
    with pytest.raises(StoreMismatch, match=r"the content hash of its row 1 is not that of the sample '0000.png'"):
        import_([swapped], tmp_path / "store", by_position=True)
    by_place = import_([proven], tmp_path / "by_place", by_position=True)

    by_key = import_([plain | {"key": list(SOURCE.keys)}], tmp_path / "by_key")
    assert by_place.manifest.statistics == by_key.manifest.statistics


def test_probabilities_called_logits_are_refused_and_so_are_their_logarithms(tmp_path: Path) -> None:
    p_NC = torch.from_numpy(given_logits()).softmax(dim=1)

    with pytest.raises(SourceError, match=r"are probabilities already.*Say `predictions.kind = probabilities`"):
        import_(write(tmp_path / "p.npz", {"logits": p_NC}), tmp_path / "store")
    with pytest.raises(SourceError, match=r"are log_probabilities already.*`predictions.kind = log_probabilities`"):
        import_(write(tmp_path / "l.npz", {"logits": p_NC.log()}), tmp_path / "store")
    sure = import_(
        write(tmp_path / "l.npz", {"logits": p_NC.log()}),
        tmp_path / "store",
        dump=DumpOptions(output=("logits:classes",)),
    )
    assert sure.manifest.classes[0].absolute


@pytest.mark.parametrize("coding", ["float16", "int8", "int8_rotated", "float32"])
def test_values_are_imported_in_each_coding(tmp_path: Path, coding: ValuesCoding) -> None:
    vectors_ND = np.random.default_rng(0).normal(size=(len(SOURCE), 6)).astype(np.float32)
    file = write(tmp_path / "v.npz", {"values": vectors_ND})

    import_(file, tmp_path / "store", dump=DumpOptions(values_coding=coding))

    found_ND = open_store(tmp_path / "store").read_features("embedding", np.arange(len(SOURCE)))
    np.testing.assert_allclose(found_ND.numpy(), vectors_ND, atol=0 if coding == "float32" else 0.02)


def test_values_beyond_float16_are_refused_in_it(tmp_path: Path) -> None:
    vectors_ND = np.full((len(SOURCE), 6), 1e6, dtype=np.float32)

    with pytest.raises(SoftlabError, match=r"Values over 65,504 are kept with `dump.values_coding = float32`"):
        import_(write(tmp_path / "v.npz", {"values": vectors_ND}), tmp_path / "store", dump=DumpOptions())


def test_an_embedding_called_logits_is_refused(tmp_path: Path) -> None:
    vectors_ND = np.random.default_rng(0).normal(0, 0.05, size=(len(SOURCE), 512))

    with pytest.raises(SoftlabError, match="look like those of an embedding"):
        import_(write(tmp_path / "p.npz", {"logits": vectors_ND}), tmp_path / "store")


def test_targets_are_aligned_with_the_names_of_the_predictions(tmp_path: Path) -> None:
    """The classes of the predictions stand in the reverse order of the source's."""
    logits_NC = given_logits()
    targets_N = logits_NC.argmax(axis=1).astype(np.int64)
    source = Pictures(targets_N=targets_N)
    assert source.class_names is not None
    arrays = {"key": list(SOURCE.keys), "logits": logits_NC[:, ::-1], "class_names": source.class_names[::-1]}

    with pytest.warns(OddLabels, match="classes aligned by name"):
        summary = import_([arrays], tmp_path / "store", source=source)

    assert summary.manifest.classes[0].label_space.class_names == source.class_names[::-1]
    (statistics,) = summary.manifest.statistics.values()
    assert statistics.correct == len(source)


def test_classes_in_another_order_without_names_are_told(tmp_path: Path) -> None:
    logits_NC = np.repeat(given_logits(), 4, axis=0)[: len(SOURCE) * 4]
    source = Pictures(count=200, targets_N=logits_NC.argmax(axis=1).astype(np.int64), class_names=None)
    arrays = {"key": list(source.keys), "logits": np.roll(logits_NC, 1, axis=1)}

    with pytest.warns(OddLabels, match="one"):
        import_([arrays], tmp_path / "store", source=source)
