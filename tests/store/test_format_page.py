"""FORMAT.md says enough: a reader that was written from it reads what softlab reads, whatever the format and coding."""

# Shape letters: N samples.

import ast
import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from softlab.labels.coding import Coding
from softlab.labels.losses import head_log_probabilities
from softlab.labels.values_coding import ValuesCoding
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.modality import decode_sample, find_modality
from softlab.modalities.opening import open_source
from softlab.models.build import ModelOptions, build_model
from softlab.models.device import DeviceOptions
from softlab.sharing.fetch.pull import PullOptions, pull
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.cache import CacheOptions
from softlab.store.format import FormatName
from softlab.store.reader import Store, open_store
from softlab.teacher.dump import dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from tests.store import format_reader
from tests.store.building import CODINGS, FORMATS, VALUES_CODINGS, make_plan, with_digests, write_some, write_store
from tests.store.format_reader import Labels, Sampled, StoreReader, Tree, probabilities
from tests.store.unit_stores import fill, make_unit_plan, write_units

NO_CACHE = CacheOptions(max_bytes=0)
FORMAT_1 = Path(__file__).parents[1] / "fixtures/format_1"
ROWS = (2, 0, 3, 1, 4, 1, 2)
"""Of each sample of a store with units."""

EVERY_FORMAT_AND_CODING = [
    pytest.param(format, coding, id=f"{format}-{coding}") for format in FORMATS for coding in CODINGS
]


def assert_reads_the_same(root: Path) -> None:
    """All that softlab reads of a store, to the bit."""
    ours, theirs = StoreReader(root), open_store(root, cache=NO_CACHE)
    assert ours.digest == theirs.digest
    assert_same_samples(ours, theirs)
    assert_same_files(ours)
    for view in range(theirs.num_views):
        digests = theirs.read_pixel_digests(view)
        assert ours.pixel_digests(view) == dict(zip(digests.store_D.tolist(), digests.digests_D.tolist(), strict=True))
        for output in ours.outputs():
            if output["kind"] == "values":
                found = theirs.read_features(output["name"], range(theirs.num_samples), view=view)
                np.testing.assert_array_equal(ours.values(output, view=view), found.numpy(), strict=True)
            elif output["selection"]["method"] == "sampled":
                assert_same_sampled(ours.sampled(output, view=view), theirs.with_labels(output["name"]), view)
            else:
                assert_same_labels(ours.labels(output, view=view), theirs.with_labels(output["name"]), output, view)


def assert_same_samples(ours: StoreReader, theirs: Store) -> None:
    samples, table, source = ours.samples(), theirs.read_samples(), ours.manifest["source"]
    assert samples.keys == list(table.keys)
    assert samples.content_hashes == list(table.content_hashes)
    targets_N = np.full(len(table), -1) if table.targets_N is None else table.targets_N
    assert [-1 if each is None else each for each in samples.targets] == targets_N.tolist()
    recipe_N = np.arange(len(table)) if table.recipe_N is None else table.recipe_N
    assert samples.numbers == recipe_N.tolist()
    assert (table.recipe_N is None) == (source["chosen_from"] is None)
    assert format_reader.source_fingerprint(samples) == ours.manifest["source_fingerprint"]
    assert format_reader.views_fingerprint(ours.manifest["views"]) == ours.manifest["views"]["fingerprint"]


def assert_same_files(ours: StoreReader) -> None:
    for file in ours.files():
        data = (ours.root / file["path"]).read_bytes()
        assert (len(data), format_reader.file_hash(data)) == (file["bytes"], file["blake3"])


def assert_same_labels(ours: Labels, theirs: Store, output: Tree, view: int) -> None:
    labels = theirs.read(range(theirs.num_samples), view=view)
    units = theirs.read_units(range(theirs.num_samples))
    for found, expected in [
        (ours.class_ids_RK, labels.class_ids_BK),
        (ours.logits_RK, labels.logits_BK),
        (ours.max_logit_R, labels.max_logit_B),
        (ours.log_tail_RT, labels.log_tail_BT),
    ]:
        np.testing.assert_array_equal(found, expected.numpy(), strict=True)
    assert (ours.unit_R is None) == (units is None)
    if ours.unit_R is not None and units is not None:
        np.testing.assert_array_equal(ours.unit_R, units.numpy())
    for temperature in labels.temperatures:
        kept_RK, tail_R = probabilities(ours, output, temperature)
        log_tail_B = labels.log_tail_at(temperature)
        if labels.head == "sigmoid":
            expected = ((labels.logits_BK + labels.max_logit_B[:, None]) / temperature).sigmoid()
        else:
            expected = head_log_probabilities(labels, temperature=temperature, log_tail_B=log_tail_B).exp()
            np.testing.assert_allclose(kept_RK.sum(axis=1) + tail_R, 1)
        np.testing.assert_allclose(kept_RK, expected.numpy(), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(tail_R, log_tail_B.exp().numpy(), rtol=1e-5)


def assert_same_sampled(ours: Sampled, theirs: Store, view: int) -> None:
    labels = theirs.read(range(theirs.num_samples), view=view)
    weights_RK = (labels.logits_BK + labels.max_logit_B[:, None]).exp().numpy()
    assert len(labels) == len(ours.classes)
    for row, (classes, weights) in enumerate(zip(ours.classes, ours.weights, strict=True)):
        assert labels.class_ids_BK[row, : len(classes)].tolist() == classes.tolist()
        np.testing.assert_allclose(weights_RK[row, : len(classes)], weights, rtol=1e-5)
        assert not weights_RK[row, len(classes) :].any()
    assert labels.entropy_B is not None
    np.testing.assert_array_equal(ours.entropy_R, labels.entropy_B.numpy(), strict=True)


@pytest.mark.parametrize(("format", "coding"), EVERY_FORMAT_AND_CODING)
def test_labels_and_features(tmp_path: Path, format: FormatName, coding: Coding) -> None:
    features = {"pooled": (6,), "map": (3, 2), "score": ()}
    write_store(tmp_path, with_digests(make_plan(format=format, coding=coding, features=features), every=3))

    assert_reads_the_same(tmp_path)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("coding", VALUES_CODINGS)
def test_codings_of_values(tmp_path: Path, format: FormatName, coding: ValuesCoding) -> None:
    features = {"pooled": (6,), "map": (3, 2), "score": ()}
    plan = make_plan(format=format, coding="float16", values_coding=coding, features=features)
    write_store(tmp_path, with_digests(plan, every=3))

    assert_reads_the_same(tmp_path)


@pytest.mark.parametrize(("format", "coding"), EVERY_FORMAT_AND_CODING)
@pytest.mark.parametrize("has_valid", [False, True])
def test_several_outputs_units_and_rows_with_fewer_classes(
    tmp_path: Path, format: FormatName, coding: Coding, has_valid: bool
) -> None:
    plan = make_unit_plan(ROWS, format=format, coding=coding, has_valid=has_valid, classes=("page", "tokens"))
    write_units(tmp_path, fill(plan, ROWS))

    assert_reads_the_same(tmp_path)


@pytest.mark.parametrize("format", FORMATS)
def test_sampled_rows(tmp_path: Path, format: FormatName) -> None:
    plan = make_unit_plan(ROWS, format=format, is_sampled=True, classes=("page", "tokens"))
    write_units(tmp_path, fill(plan, ROWS))

    assert_reads_the_same(tmp_path)


def test_class_ids_of_many_classes(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan(num_classes=70_000))

    assert StoreReader(tmp_path).storage["fields"][0]["dtype"] == "uint32"
    assert_reads_the_same(tmp_path)


def dump(out: Path, **options: object) -> None:
    """Of 40 images in 3 views that are drawn anew for each sample."""
    teacher = Teacher(
        module=build_model(ModelOptions(model="softlab:grey_cnn", arguments={"num_classes": 6, "width": 4})).eval(),
        name="softlab:grey_cnn",
        arguments={"num_classes": 6},
        input=ImageInput(mean=(0.5,), std=(0.25,)),
    )
    augment = ViewRecipe(transforms=("RandomApply([RandomCrop(12, padding=2)], p=0.75)",), seed=3)
    device = DeviceOptions(name="cpu", workers=0)
    given = DumpOptions(feature={"pool": "pool"}, views=3, shard_rows=16, device=device, **options)  # type: ignore[arg-type]
    dump_teacher(teacher, images(), out, given, augment=augment)


def images() -> Source:
    return open_source(SourceOptions(path=str(FORMAT_1 / "images.parquet")))


@pytest.mark.parametrize("format", FORMATS)
def test_a_dump_of_a_multi_label_teacher(tmp_path: Path, format: FormatName) -> None:
    dump(tmp_path, k=3, coding="uint8", format=format, head="sigmoid")

    assert_reads_the_same(tmp_path)


def test_a_dump_of_all_classes_which_has_no_tail(tmp_path: Path) -> None:
    dump(tmp_path, k=6)

    assert np.isneginf(StoreReader(tmp_path).labels(StoreReader(tmp_path).outputs()[0], view=0).log_tail_RT).all()
    assert_reads_the_same(tmp_path)


@pytest.mark.parametrize("format", FORMATS)
def test_a_part_of_a_store(tmp_path: Path, format: FormatName) -> None:
    dump(tmp_path / "whole", k=3, format=format, pixel_digests="all")
    keys = StoreReader(tmp_path / "whole").samples().keys
    (tmp_path / "keys.txt").write_text("\n".join(keys[3::5]))

    pull(tmp_path / "whole", tmp_path / "part", PullOptions(views="1-2", samples=tmp_path / "keys.txt"))

    part = StoreReader(tmp_path / "part")
    assert part.samples().numbers == list(range(3, 40, 5))
    assert part.manifest["views"]["first"] == 1
    assert part.manifest["source"]["keys_fingerprint"] == format_reader.keys_fingerprint(keys[3::5])
    assert_reads_the_same(tmp_path / "part")


@pytest.mark.parametrize("name", FORMATS)
def test_stores_of_format_1(name: str) -> None:
    assert StoreReader(FORMAT_1 / name).version == 1
    assert_reads_the_same(FORMAT_1 / name)


# Hashes, digests, and what the files of a shard look like.


def test_fingerprints_and_pixel_digests_are_those_of_the_data(tmp_path: Path) -> None:
    dump(tmp_path, k=3, pixel_digests="all")
    store, source = StoreReader(tmp_path), images()
    modality = find_modality("images")
    replay = modality.replay(open_store(tmp_path, cache=NO_CACHE).manifest.views, num_samples=40)

    views = replay.views(list(range(40)), [2] * 40, lambda index: decode_sample(source.read(index), modality))

    digests = store.pixel_digests(2)
    assert [format_reader.example_digest(view.example.numpy()) for view in views] == [digests[n] for n in range(40)]
    manifest = store.manifest
    assert format_reader.keys_fingerprint(source.keys) == manifest["source"]["keys_fingerprint"]
    space = manifest["outputs"][0]["label_space"]
    assert format_reader.label_space_fingerprint(space) == space["fingerprint"]
    image = source.read(7).fields["image"]
    assert isinstance(image, bytes)
    assert format_reader.file_hash(image)[:32] == store.samples().content_hashes[7].hex()


def test_the_metadata_of_zarr_is_as_the_page_says(tmp_path: Path) -> None:
    write_units(tmp_path, fill(make_unit_plan(ROWS, coding="uint8"), ROWS))
    store = StoreReader(tmp_path)
    room, num_parts = store.storage["shard_units"], len(list(store.parts()))

    for output in store.outputs():
        group = json.loads((tmp_path / f"outputs/{output['name']}/zarr.json").read_text())["attributes"]
        facts = {"shard_samples": store.storage["shard_rows"], "shard_units": room} if output["units"] else {}
        if output["kind"] == "classes":
            coding, space = output["coding"], output["label_space"]
            facts |= {"temperatures": output["selection"]["temperatures"], "num_classes": space["num_classes"]}
            facts |= {"head": output["head"], "coding": coding["logits"], "gap_step": coding["gap_step"]}
        assert group == facts
        capacity = room if output["units"] else store.storage["shard_rows"]
        num_rows = num_parts * room if output["units"] else store.num_samples
        for field in store.fields(store.place(output)):
            array = json.loads((tmp_path / field["name"] / "zarr.json").read_text())
            (sharding,) = array["codecs"]
            assert array["shape"] == [2, num_rows, *field["row_shape"]]
            assert array["data_type"] == field["dtype"]
            assert array["fill_value"] == 0
            assert array["chunk_grid"]["configuration"]["chunk_shape"] == [1, capacity, *field["row_shape"]]
            assert array["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
            assert sharding["name"] == "sharding_indexed"
            inner, little = sharding["configuration"], {"name": "bytes", "configuration": {"endian": "little"}}
            assert inner["chunk_shape"] == [1, field["chunk_rows"], *field["row_shape"]]
            assert [codec["name"] for codec in inner["codecs"]] == ["bytes", "blosc", "crc32c"]
            assert (inner["index_location"], inner["index_codecs"]) == ("end", [little, {"name": "crc32c"}])
            assert inner["codecs"][0] in (little, {"name": "bytes"})  # bytes alone have no order


def test_the_metadata_of_parquet_is_as_the_page_says(tmp_path: Path) -> None:
    write_units(tmp_path, fill(make_unit_plan(ROWS, format="parquet", coding="uint8", has_valid=True), ROWS))
    store = StoreReader(tmp_path)

    for output in store.outputs():
        fields = {field["name"].rpartition("/")[2]: field for field in store.fields(store.place(output))}
        with pq.ParquetFile(tmp_path / f"outputs/{output['name']}/view=00001/part-00000.parquet") as file:
            schema, metadata = file.schema_arrow, file.metadata
        facts = json.loads(schema.metadata[b"softlab"])
        assert facts.pop("row_shapes") == {name: field["row_shape"] for name, field in fields.items()}
        names = ["temperatures", "num_classes", "head", "coding", "gap_step"] if output["kind"] == "classes" else []
        assert list(facts) == names
        assert schema.names == ["sample", *fields]
        for name, field in fields.items():
            dtype = {"float16": "halffloat", "float32": "float"}.get(field["dtype"], field["dtype"])
            listed = f"fixed_size_list<element: {dtype}>[{math.prod(field['row_shape'])}]"
            assert str(schema.field(name).type) == (listed if field["row_shape"] else dtype)
        assert metadata.row_group(0).num_rows == min(field["chunk_rows"] for field in fields.values())


def test_inner_chunks_without_rows_are_absent_and_others_have_zeros_behind_the_last_row(tmp_path: Path) -> None:
    write_units(tmp_path, fill(make_unit_plan(ROWS), ROWS))
    store = StoreReader(tmp_path)
    tokens = next(each for each in store.outputs() if each["name"] == "tokens")
    rows_N, room = store.samples().rows_N, store.storage["shard_units"]
    assert rows_N is not None

    for field in store.fields(store.place(tokens)):
        num_chunks = room // field["chunk_rows"]
        for part, samples in store.parts():
            axes = "/0" * len(field["row_shape"])
            data = (tmp_path / f"{field['name']}/c/0/{part}{axes}").read_bytes()
            index = struct.unpack(f"<{2 * num_chunks}Q", data[-16 * num_chunks - 4 : -4])
            used = max(-(-int(rows_N[list(samples)].sum()) // field["chunk_rows"]), 1)
            assert all(each == 2**64 - 1 for each in index[2 * used :])
            assert all(each < len(data) for each in index[: 2 * used])


def test_a_dump_under_way_has_the_files_that_the_page_lists(tmp_path: Path) -> None:
    plan = with_digests(make_plan(), every=1)
    write_some(tmp_path, plan, num_shards=1)

    files = {path.name for path in (tmp_path / "commits").iterdir()}
    assert files == {"plan.json", "lock", "view-00000-part-00000.hashes", "view-00000-part-00000.json"}
    settled = json.loads((tmp_path / "commits/plan.json").read_text())
    assert list(settled)[-3:] == ["parent", "samples_file", "self"]
    record = json.loads((tmp_path / "commits/view-00000-part-00000.json").read_text())
    assert list(record) == ["shard", "hashes_file", "pixel_digests", "rows", "self"]


def test_the_reader_knows_nothing_of_softlab() -> None:
    tree = ast.parse(Path(format_reader.__file__).read_text())
    modules = [each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)]
    modules += [name.name for each in ast.walk(tree) if isinstance(each, ast.Import) for name in each.names]
    others = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names

    assert others == {"numpy", "zarr", "pyarrow", "blake3"}
