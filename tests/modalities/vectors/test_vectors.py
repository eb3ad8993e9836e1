from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import softlab
from softlab.errors import InvalidOption, OddSource, StoreMismatch, UnreadableSample
from softlab.manifest import InputRecord
from softlab.modalities.modality import (
    InputOptions,
    Modality,
    decode_sample,
    decoding_for,
    model_arguments,
    options_by_name,
    settle_input,
)
from softlab.modalities.vectors.inputs import VectorInput
from softlab.modalities.vectors.modality import MODALITY
from softlab.modalities.vectors.settling import Moments
from softlab.sources.source import Raw, Source
from softlab.testing.modalities import ModalityContract
from tests.modalities.vectors.tables import COLOURS, make_table, write_table

TABLE = make_table()
ROWS: list[Any] = [
    {name: np.asarray(TABLE[name][row]) if name != "colour" else str(TABLE[name][row]) for name in TABLE}
    for row in range(60)
]
FLAT, _ = MODALITY.settle_input(VectorInput(numbers=("weight", "rooms"), categories=("colour",)), ROWS)
WINDOWS, _ = MODALITY.settle_input(VectorInput(numbers=("x", "y"), categories=("colour",), layout="channels"), ROWS)


class TestVectors(ModalityContract):
    @pytest.fixture
    def modality(self) -> Modality:
        return MODALITY

    @pytest.fixture
    def raws(self) -> Sequence[Raw]:
        return ROWS[:6]

    @pytest.fixture
    def inputs(self) -> Sequence[InputOptions]:
        return [FLAT, WINDOWS, replace(FLAT, unseen="zeros"), replace(FLAT, standardise=False, means=(), deviations=())]


def opened(path: Path, columns: dict[str, Any] = TABLE, **options: Any) -> Source:
    fields = [name for name in columns if name != "label"]
    return softlab.open_source(write_table(path / "table.parquet", columns, *fields, **options), modality="vectors")


def test_numbers_are_standardised_and_categories_are_ones_among_zeros() -> None:
    weight = (TABLE["weight"] - TABLE["weight"].mean()) / TABLE["weight"].std()
    rooms = (TABLE["rooms"] - TABLE["rooms"].mean()) / TABLE["rooms"].std()
    one_hot = [[float(colour == each) for each in COLOURS] for colour in TABLE["colour"]]

    (samples,) = MODALITY.collate(ROWS, FLAT).inputs.positional

    expected = np.concatenate([weight[:, None], rooms[:, None], one_hot], axis=1)
    torch.testing.assert_close(samples, torch.from_numpy(expected).float())


def test_each_field_is_a_channel_of_a_window() -> None:
    x, y = np.stack(TABLE["x"]), np.stack(TABLE["y"])

    (samples,) = MODALITY.collate(ROWS, WINDOWS).inputs.positional

    assert samples.shape == (60, 5, 12)
    torch.testing.assert_close(samples[:, 0], torch.from_numpy((x - x.mean()) / x.std()).float())
    torch.testing.assert_close(samples[:, 1], torch.from_numpy((y - y.mean()) / y.std()).float())
    is_red = torch.from_numpy(TABLE["colour"] == "red").float()
    assert samples[:, 4].equal(is_red[:, None].expand(60, 12))


def test_without_standardising_numbers_stay_as_they_are() -> None:
    options, note = MODALITY.settle_input(VectorInput(numbers=("y", "rooms"), standardise=False), ROWS)

    (samples,) = MODALITY.collate(ROWS[:2], options).inputs.positional

    assert note == ""
    np.testing.assert_array_equal(samples[1], np.append(TABLE["y"][1], TABLE["rooms"][1]).astype(np.float32))


def test_fields_that_are_not_named_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    settled = settle_input(VectorInput(), opened(tmp_path))

    assert settled.numbers == ("weight", "rooms", "x", "y")
    assert settled.categories == ("colour",)
    assert settled.sizes == (1, 1, 12, 12)
    assert model_arguments(settled) == {"num_inputs": 29, "num_channels": 1, "length": 29}
    assert model_arguments(WINDOWS) == {"num_inputs": 60, "num_channels": 5, "length": 12}


def test_whole_numbers_are_categories_where_they_are_named_so(tmp_path: Path) -> None:
    settled = settle_input(VectorInput(categories=("rooms",)), opened(tmp_path))

    assert settled.levels == {"rooms": {str(number): place for place, number in enumerate(range(1, 6))}}
    assert MODALITY.collate(ROWS[:9], settled).inputs.positional[0].argmax(dim=1).tolist() == [
        number - 1 for number in TABLE["rooms"][:9]
    ]


def test_a_settled_input_reads_no_sample_again(tmp_path: Path) -> None:
    settled = settle_input(VectorInput(), opened(tmp_path))
    (tmp_path / "other").mkdir()
    other = opened(tmp_path / "other", make_table(seed=1))

    assert settle_input(settled, other) == settled
    assert MODALITY.samples_to_settle(settled) == 0


@pytest.mark.parametrize("shift", [0.0, 1e9])
def test_statistics_of_blocks_are_those_of_all_rows(shift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softlab.modalities.vectors.settling.BLOCK_NUMBERS", 30)
    rows_ND = np.random.default_rng(0).normal(shift, 3, (101, 4))
    moments = Moments()
    for rows in np.array_split(rows_ND, 37):
        moments.add(rows)

    means_D, deviations_D = moments.means_and_deviations()

    np.testing.assert_allclose(means_D, rows_ND.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(deviations_D, rows_ND.std(axis=0), rtol=1e-6)


def refusal(row: Mapping[str, Any], options: VectorInput) -> str:
    modality = MODALITY.for_inputs((options,), None)
    with pytest.raises(ValueError, match=r"its field|too large") as refused:
        modality.decode(row)
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.array(np.nan)}, "its field 'weight' holds nan, and a model takes finite numbers"),
        ({"weight": np.array(-np.inf)}, "its field 'weight' holds -inf"),
        ({"weight": "heavy"}, "its field 'weight' is read as numbers, and holds the text 'heavy'"),
        ({"weight": np.zeros(0)}, "its field 'weight' is empty"),
        ({"weight": np.zeros((2, 2))}, "its field 'weight' has 2 axes. Give each channel as a field of its own"),
        ({"weight": np.zeros(3)}, "its field 'weight' has 3 numbers, and other samples have 1"),
        ({"weight": np.array(1e300)}, "has numbers that are too large for float32"),
        ({"colour": "mauve"}, "its field 'colour' holds the category 'mauve', which no sample had when the input was"),
        ({"colour": np.array(1.5)}, "its field 'colour' is read as a category, and holds 1 numbers of type float64"),
        ({"colour": ("red", "blue")}, "its field 'colour' is read as a category, and holds several texts"),
        ({"colour": b"red"}, "its field 'colour' is read as a category, and holds encoded data"),
    ],
)
def test_a_sample_that_a_model_cannot_read_is_refused_with_its_field(change: dict[str, Any], message: str) -> None:
    assert message in refusal(ROWS[0] | change, FLAT)


def test_a_window_of_another_length_is_refused() -> None:
    assert "its field 'y' has 11 numbers, and other samples have 12" in refusal(ROWS[0] | {"y": np.zeros(11)}, WINDOWS)
    inside = np.array([0.0] * 5 + [np.inf] + [0.0] * 6)
    assert "its field 'x' holds inf at place 5" in refusal(ROWS[0] | {"x": inside}, WINDOWS)


def test_a_bad_sample_is_named_by_its_key_and_counts_nothing_in_the_statistics(tmp_path: Path) -> None:
    weight = TABLE["weight"].copy()
    weight[7] = np.nan
    source = opened(tmp_path, TABLE | {"weight": weight})

    settled = settle_input(VectorInput(numbers=("weight",)), source)

    assert settled.means == pytest.approx((np.nanmean(weight),))
    with pytest.raises(UnreadableSample, match=r"row 7: sample '07' can't be read: its field 'weight' holds nan"):
        decode_sample(source.read(7), decoding_for(MODALITY, (settled,)))
    left = opened(tmp_path, TABLE | {"weight": weight}, skip_unreadable=True)
    assert [each.key for each in left.skipped] == ["07"]
    assert settle_input(VectorInput(numbers=("weight",)), left) == settled


def test_an_unseen_category_may_be_all_zeros() -> None:
    options = replace(FLAT, unseen="zeros")
    row = decoding_for(MODALITY, (options,)).decode(ROWS[0] | {"colour": "mauve"})

    assert MODALITY.collate([row], options).inputs.positional[0][0, 2:].tolist() == [0, 0, 0]


def test_a_number_that_never_changes_is_told_and_becomes_zero(tmp_path: Path) -> None:
    """0.1 has a mean that is off by rounding, so that its deviation isn't quite 0."""
    source = opened(tmp_path, TABLE | {"tenth": np.full(60, 0.1), "zero": np.zeros(60)})
    with pytest.warns(OddSource, match=r"2 of 3 numbers never change \(of 'tenth', 'zero'\), and are 0 for a model"):
        settled = settle_input(VectorInput(numbers=("weight", "tenth", "zero")), source)

    assert settled.deviations[1:] == (1.0, 1.0)
    (samples,) = MODALITY.collate([source.read(0).fields], settled).inputs.positional
    np.testing.assert_allclose(samples[0, 1:], [0, 0], atol=1e-9)


def test_a_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    source = opened(tmp_path)
    with pytest.raises(InvalidOption, match=r"has no field 'wieght' \(it has weight, .*\). Did you mean weight"):
        settle_input(VectorInput(numbers=("wieght",)), source)
    del (columns := dict(TABLE))["rooms"]
    with pytest.raises(InvalidOption, match=r"has no field 'rooms' .*source.fields.rooms"):
        decode_sample(opened(tmp_path, columns).read(0), decoding_for(MODALITY, (FLAT,)))


def record_of(options: VectorInput) -> InputRecord:
    values = {name: list(v) if isinstance(v, tuple) else v for name, v in options_by_name(options).items()}
    return InputRecord(field=options.fields[0], modality="vectors", options=values)


def test_teacher_and_student_may_read_different_columns_of_the_same_samples(tmp_path: Path) -> None:
    source = opened(tmp_path)
    student = settle_input(VectorInput(numbers=("rooms",)), source)

    both = decoding_for(MODALITY, (student,), [record_of(FLAT)])

    example = decode_sample(source.read(3), both)
    assert list(example) == ["weight", "rooms", "colour"]
    assert both.digest(example) == decoding_for(MODALITY, (FLAT,)).digest(ROWS[3])
    del (columns := dict(TABLE))["colour"]
    with pytest.raises(InvalidOption, match=r"has no field 'colour', which the teacher reads"):
        decode_sample(opened(tmp_path, columns).read(3), both)


def test_a_dump_that_was_begun_keeps_its_statistics() -> None:
    assert MODALITY.as_settled(VectorInput(), record_of(FLAT)) == FLAT
    assert MODALITY.as_settled(VectorInput(numbers=FLAT.numbers, categories=FLAT.categories), record_of(FLAT)) == FLAT
    with pytest.raises(StoreMismatch, match=r"input.numbers = \('rooms',\): the dump that was begun has \('weight', "):
        MODALITY.as_settled(VectorInput(numbers=("rooms",)), record_of(FLAT))
    with pytest.raises(StoreMismatch, match=r"input.layout = channels: the dump that was begun has flat"):
        MODALITY.as_settled(VectorInput(layout="channels"), record_of(FLAT))


def test_channels_of_different_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"the fields have different lengths \(weight 1, x 12\)"):
        settle_input(VectorInput(numbers=("weight", "x"), layout="channels"), opened(tmp_path))


def test_names_of_samples_are_no_categories(tmp_path: Path) -> None:
    names = [f"row {number}" for number in range(4_097)]
    source = opened(tmp_path, {"name": names})

    with pytest.raises(InvalidOption, match=r"the field 'name' has more than 4,096 categories"):
        settle_input(VectorInput(), source)


def test_a_source_of_which_nothing_can_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="none of the samples can be read so"):
        settle_input(VectorInput(numbers=("colour",)), opened(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbers": ("a", "b"), "categories": ("b",)}, "name 'b' more than once"),
        ({"layout": "rows"}, "input.layout = rows: expected flat or channels"),
        ({"unseen": "mean"}, "input.unseen = mean: expected refuse or zeros"),
        ({"layout": "channels", "categories": ("a",)}, "categories alone have no length"),
        ({"numbers": ("a",), "sizes": (2,), "means": (0.0,), "deviations": (1.0,)}, "1 and 1 values for 2 numbers"),
        ({"numbers": ("a",), "sizes": (1,), "means": (0.0,), "deviations": (0.0,)}, "a deviation that isn't above 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        VectorInput(**options)


def test_an_input_that_is_not_settled_gives_nothing() -> None:
    assert model_arguments(VectorInput()) == {}
    with pytest.raises(InvalidOption, match="this input isn't settled"):
        MODALITY.collate(ROWS[:2], VectorInput())
