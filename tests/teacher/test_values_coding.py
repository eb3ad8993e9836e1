"""Dumps whose features, and other outputs of values, are stored in each coding."""

# Shape letters: B samples in a batch, N samples.

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from softlab.cli.inspect import inspect
from softlab.errors import StoreExists, StoreMismatch, TeacherError
from softlab.labels.coding import as_tensor
from softlab.labels.values_coding import ValuesCoding, decode_values, encode_values
from softlab.store.format import FormatName
from softlab.store.reader import open_store
from softlab.store.verify import verify_store
from softlab.teacher.planning import as_teacher
from softlab.teacher.survey import survey_teacher
from tests.store.building import FORMATS, VALUES_CODINGS, contents
from tests.teacher.augmenting import dump_views
from tests.teacher.dumping import Pictures, batches_of, dump, images_of, make_options, make_teacher, stop_at
from tests.teacher.test_several_outputs import Dense

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
EVERY_CODING = pytest.mark.parametrize("coding", VALUES_CODINGS)
FEATURES = {"map": "conv", "pooled": "conv:mean"}


def maps_of_the_teacher() -> Tensor:
    """What a plain forward pass gives for all pictures, float32 [N, 2, 4, 6]."""
    conv = make_teacher().get_submodule("conv")
    with torch.inference_mode():
        return torch.cat([conv(images_of(Pictures(), batch)) for batch in batches_of(50, make_options())])


def through(values: Tensor, coding: ValuesCoding) -> Tensor:
    """What a store should give back: the coding is the only loss."""
    if not coding.startswith("int8"):
        return values if coding == "float32" else values.half().float()
    return decode_values({name: as_tensor(array) for name, array in encode_values(values, coding).items()})


@EVERY_CODING
@BOTH_FORMATS
def test_stored_features_are_those_of_a_plain_forward_pass(
    tmp_path: Path, format: FormatName, coding: ValuesCoding
) -> None:
    dump(tmp_path / "store", make_options(format=format, values_coding=coding, feature=FEATURES))

    store = open_store(tmp_path / "store")
    map_NCHW = maps_of_the_teacher()
    assert verify_store(tmp_path / "store").is_intact
    assert [output.coding for output in store.manifest.values] == [coding, coding]
    assert store.read_features("map", range(50)).equal(through(map_NCHW, coding))
    assert store.read_features("pooled", range(50)).equal(through(map_NCHW.mean(dim=(2, 3)), coding))


@EVERY_CODING
@BOTH_FORMATS
def test_a_dump_that_was_interrupted_ends_with_the_same_bytes(
    tmp_path: Path, format: FormatName, coding: ValuesCoding
) -> None:
    options = make_options(format=format, values_coding=coding, feature=FEATURES)
    dump(tmp_path / "undisturbed", options)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", options, on_progress=stop_at(33))

    dump(tmp_path / "store", options)

    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("coding", ["float32", "int8", "int8_rotated"])
def test_a_dump_is_not_gone_on_with_in_another_coding(tmp_path: Path, coding: ValuesCoding) -> None:
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", make_options(feature=FEATURES), on_progress=stop_at(33))
    dump(tmp_path / "finished", make_options(feature=FEATURES))
    other = make_options(feature=FEATURES, values_coding=coding)
    difference = re.escape(f"`dump.values_coding` was 'float16', is now '{coding}'")

    with pytest.raises(StoreMismatch, match=difference):
        dump(tmp_path / "store", other)
    with pytest.raises(StoreExists, match=difference):
        dump(tmp_path / "finished", other)


@BOTH_FORMATS
def test_views_are_added_in_the_same_coding_alone(tmp_path: Path, format: FormatName) -> None:
    options: dict[str, Any] = {"feature": FEATURES, "values_coding": "int8", "format": format}
    dump_views(tmp_path / "alone", 2, **options)
    dump_views(tmp_path / "store", 1, **options)

    with pytest.raises(StoreMismatch, match=re.escape("`dump.values_coding` was 'int8', is now 'float16'")):
        dump_views(tmp_path / "store", "+1", feature=FEATURES, format=format)
    dump_views(tmp_path / "store", "+1", **options)

    found, expected = open_store(tmp_path / "store"), open_store(tmp_path / "alone")
    assert verify_store(tmp_path / "store").is_intact
    for name in FEATURES:
        for view in range(2):
            values = found.read_features(name, range(50), view=view)
            assert values.equal(expected.read_features(name, range(50), view=view))


@EVERY_CODING
def test_values_at_each_position_are_stored_beside_units(tmp_path: Path, coding: ValuesCoding) -> None:
    """The map is one row a sample, beside logits with a row for each position."""
    options = make_options(output=("logits", "map:values=layer:head"), values_coding=coding)
    dump(tmp_path / "store", options, teacher=Dense())

    module = Dense().eval()
    with torch.inference_mode():
        maps = torch.cat([module.head(images_of(Pictures(), batch)) for batch in batches_of(50, options)])
    assert open_store(tmp_path / "store").read_features("map", [7, 2]).equal(through(maps[[7, 2]], coding))


@pytest.mark.parametrize(
    ("coding", "is_refused"), [(each, each == "float16") for each in VALUES_CODINGS], ids=VALUES_CODINGS
)
def test_values_beyond_float16_need_another_coding(tmp_path: Path, coding: ValuesCoding, is_refused: bool) -> None:
    teacher = make_teacher()
    teacher.get_submodule("conv").register_forward_hook(lambda layer, inputs, output: output * 1e6)
    options = make_options(values_coding=coding, feature={"map": "conv"}, coding="float32")

    if is_refused:
        with pytest.raises(TeacherError, match=re.escape("Values over 65,504 are kept with `dump.values_coding = f")):
            dump(tmp_path / "store", options, teacher=teacher)
        return
    dump(tmp_path / "store", options, teacher=teacher)

    largest = open_store(tmp_path / "store").read_features("map", range(50)).abs().max().item()
    assert largest == pytest.approx(1e6 * maps_of_the_teacher().abs().max().item(), rel=1e-3)


class Reusing(nn.Module):
    """Returns its embedding in the same memory for each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(8, 3))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        embedding_BD: Tensor = self.get_buffer("kept")[: len(images_BCHW)]
        return embedding_BD.copy_(images_BCHW.mean(dim=(2, 3)))


@EVERY_CODING
def test_values_in_memory_that_the_next_batch_overwrites_are_kept(tmp_path: Path, coding: ValuesCoding) -> None:
    dump(tmp_path / "store", make_options(output=("embedding:values",), values_coding=coding), teacher=Reusing())

    means_ND = images_of(Pictures(), range(50)).mean(dim=(2, 3))
    assert open_store(tmp_path / "store").read_features("embedding", range(50)).equal(through(means_ND, coding))


class AfraidInItsValues(nn.Module):
    """Its logits are good, but black pictures have an embedding of `value`."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.teacher, self.value = make_teacher(), value

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        is_black_B1 = (images_BCHW == -1).flatten(1).all(dim=1)[:, None]
        embedding_BD = torch.where(is_black_B1, self.value, images_BCHW.mean(dim=(2, 3)))
        return {"logits": self.teacher(images_BCHW), "embedding": embedding_BD}


@EVERY_CODING
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_the_key_of_their_sample(
    tmp_path: Path, coding: ValuesCoding, value: float
) -> None:
    teacher, source = AfraidInItsValues(value), Pictures(black=frozenset({7}))
    options = make_options(output=("logits", "embedding:values"), values_coding=coding)

    with pytest.raises(TeacherError, match=re.escape("are NaN or infinite for 1 of 16 samples, such as '0007.png'.")):
        dump(tmp_path / "store", options, teacher=teacher, source=source)
    with pytest.raises(TeacherError, match="outputs are NaN or infinite for some samples"):
        survey_teacher(as_teacher(teacher), source, options)


@EVERY_CODING
def test_a_survey_weighs_values_in_their_coding(tmp_path: Path, coding: ValuesCoding) -> None:
    options = make_options(values_coding=coding, feature={"map": "conv"}, shard_rows=None)
    source = Pictures(count=256)

    found = survey_teacher(as_teacher(make_teacher()), source, options)

    shards = dump(tmp_path / "store", options, source=source).manifest.shards
    weighed = sum(file.bytes for shard in shards for file in shard.files) / 256
    (chosen,) = [choice for choice in found.choices if choice.k == found.chosen_k]
    assert chosen.bytes_per_row == pytest.approx(weighed, rel=0.1)


@EVERY_CODING
def test_inspect_shows_the_coding(tmp_path: Path, coding: ValuesCoding, capsys: pytest.CaptureFixture[str]) -> None:
    dump(tmp_path / "store", make_options(values_coding=coding, feature={"pooled": "conv:mean"}))

    inspect(str(tmp_path / "store"))

    assert f"pooled = conv:mean as {coding}" in capsys.readouterr().out


def test_int8_rows_take_a_byte_a_value_and_a_scale_in_memory(tmp_path: Path) -> None:
    dump(tmp_path / "store", make_options(values_coding="int8", feature={"map": "conv"}))

    store = open_store(tmp_path / "store")

    assert store.row_bytes("map") == 2 * 4 * 6 + 4
    assert store.read_packed(np.arange(3), feature="map").shape == (3, 52)
