"""Teachers with several outputs, with values alone, and with a row for each position of a sample."""

# Shape letters: B samples in a batch, N samples, C classes, D features, L positions.

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from softlab.cli.inspect import inspect
from softlab.errors import InvalidOption, ModelError, StoreMismatch
from softlab.labels.selection import keep_top_k
from softlab.labels.soft_labels import SoftLabels
from softlab.store.convert import convert_store
from softlab.store.format import FormatName
from softlab.store.reader import Store, open_store
from softlab.store.verify import verify_store
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher
from softlab.teacher.survey import survey_teacher
from tests.store.building import FORMATS, contents
from tests.teacher.augmenting import AUGMENT, dump_views
from tests.teacher.dumping import (
    Pictures,
    assert_same_labels,
    batches_of,
    dump,
    images_of,
    make_options,
    make_teacher,
    stop_at,
)

BOTH_FORMATS = pytest.mark.parametrize("format", FORMATS)
COUNT, HEIGHT, WIDTH, DENSE_CLASSES = 50, 4, 6, 7
EVERYTHING = ("logits", "embedding:values")


class Outputs(NamedTuple):
    logits: Tensor
    embedding: Tensor


class Several(nn.Module):
    """Returns logits and an embedding, in whatever it is told to put them."""

    def __init__(self, put: Callable[[Tensor, Tensor], object] = Outputs) -> None:
        super().__init__()
        self.teacher, self.put = make_teacher(), put

    def forward(self, images_BCHW: Tensor) -> object:
        return self.put(self.teacher(images_BCHW), images_BCHW.mean(dim=1).flatten(1))


class Dense(nn.Module):
    """Logits at each position, as a map [B, C, H, W] or as a sequence [B, L, C], and an embedding of each position."""

    def __init__(self, *, as_map: bool = True) -> None:
        super().__init__()
        self.as_map = as_map
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.head, self.coarse = nn.Conv2d(3, DENSE_CLASSES, 1), nn.Conv2d(3, DENSE_CLASSES, 2, stride=2)

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        logits_BCHW: Tensor = self.head(images_BCHW)
        outputs = {"logits": logits_BCHW, "coarse": self.coarse(images_BCHW), "whole": logits_BCHW.mean(dim=(2, 3))}
        return outputs if self.as_map else {name: _as_sequence(value) for name, value in outputs.items()}


def _as_sequence(output: Tensor) -> Tensor:
    return output.flatten(2).movedim(1, 2) if output.ndim == 4 else output


def outputs_of(module: Dense, options: DumpOptions) -> dict[str, Tensor]:
    """What plain forward passes give for all pictures."""
    with torch.inference_mode():
        parts = [module.eval()(images_of(Pictures(), batch)) for batch in batches_of(COUNT, options)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def dump_and_open(out: Path, teacher: nn.Module, *output: str, format: FormatName = "zarr", k: int = 5) -> Store:
    dump(out, make_options(output=output, coding="float32", format=format, k=k), teacher=teacher)
    assert verify_store(out).is_intact
    return open_store(out)


def top(logits_RC: Tensor) -> SoftLabels:
    return keep_top_k(logits_RC, k=5)


# Several outputs.


@pytest.mark.parametrize(
    ("put", "output"),
    [
        (lambda logits, embedding: {"logits": logits, "embedding": embedding}, EVERYTHING),
        (lambda logits, embedding: SimpleNamespace(logits=logits, embedding=embedding, loss=None), EVERYTHING),
        (Outputs, EVERYTHING),
        (lambda logits, embedding: (logits, embedding), ("logits=0", "embedding:values=1")),
        (lambda logits, embedding: [logits, (embedding,)], ("logits=0", "embedding:values=layer:teacher.conv:mean")),
        (lambda logits, embedding: logits, ("logits", "embedding:values=layer:teacher.conv:mean")),
    ],
    ids=["a mapping", "an object", "a named tuple", "a tuple", "a list", "a tensor and a layer"],
)
@BOTH_FORMATS
def test_outputs_are_found_in_whatever_a_teacher_returns(
    tmp_path: Path, put: Callable[[Tensor, Tensor], object], output: tuple[str, ...], format: FormatName
) -> None:
    dump(tmp_path / "alone", make_options(coding="float32"))

    store = dump_and_open(tmp_path / "store", Several(put), *output, format=format)

    assert [each.name for each in store.manifest.classes] == ["logits"]
    assert [each.name for each in store.manifest.values] == ["embedding"]
    assert_same_labels(store.read(range(COUNT)), open_store(tmp_path / "alone").read(range(COUNT)))
    embedding_ND = store.read_features("embedding", range(COUNT))
    if "layer" not in output[1]:
        expected_ND = images_of(Pictures(), range(COUNT)).mean(dim=1).flatten(1)
        assert embedding_ND.equal(expected_ND.half().float())


def test_two_outputs_of_classes_have_their_own_classes_and_statistics(tmp_path: Path) -> None:
    teacher = Dense()

    store = dump_and_open(tmp_path / "store", teacher, "whole", "aux=layer:head:mean", "logits:values")

    expected = outputs_of(teacher, make_options())["whole"]
    assert store.manifest.statistics.keys() == {"whole", "aux"}
    assert_same_labels(store.read(range(COUNT)), top(expected))
    assert_same_labels(store.with_labels("aux").read(range(COUNT)), top(expected))
    assert store.manifest.classes[1].taken_from == "layer:head:mean"
    torch.testing.assert_close(
        store.read_features("logits", range(COUNT)), outputs_of(teacher, make_options())["logits"].half().float()
    )


def test_another_output_that_is_asked_for_is_named_with_those_there_are(tmp_path: Path) -> None:
    store = dump_and_open(tmp_path / "store", Dense(), "whole", "logits:values")

    with pytest.raises(InvalidOption, match=re.escape("has no output 'hole' of kind classes (it has: whole). Did you")):
        store.with_labels("hole")


@BOTH_FORMATS
def test_stores_of_several_outputs_are_converted(tmp_path: Path, format: FormatName) -> None:
    store = dump_and_open(tmp_path / "store", Dense(), "logits", "whole", "map:values=coarse", format=format)
    (other,) = set(FORMATS) - {format}

    convert_store(store, tmp_path / "converted", format=other)

    converted = open_store(tmp_path / "converted")
    assert verify_store(tmp_path / "converted").is_intact
    assert_same_labels(converted.read(range(COUNT)), store.read(range(COUNT)))
    assert_same_labels(converted.with_labels("whole").read([3, 3]), store.with_labels("whole").read([3, 3]))
    assert converted.read_features("map", range(COUNT)).equal(store.read_features("map", range(COUNT)))


# What can't be.


@pytest.mark.parametrize(
    "options",
    [{"output": ("logits", "logits:values=1")}, {"output": ("logits", "pool"), "feature": {"pool": "relu"}}],
)
def test_two_outputs_of_one_name_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=r"two outputs have this name\. Give each a name of its own\."):
        make_options(**options)


def test_no_output_at_all_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"nothing is to be stored\. Name one, as in `dump.output = logits`\."):
        make_options(output=())


def test_outputs_with_other_positions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        dump(tmp_path / "store", make_options(output=("logits", "coarse")), teacher=Dense())

    assert str(refused.value) == (
        "outputs logits and coarse: the first has 48 rows for these samples, the second 12, but the outputs of a "
        "store have the same positions. Dump them into two stores, or take outputs of one resolution."
    )
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (
            lambda logits, _: {"logits": logits, "embedding": logits[1:]},
            "output embedding: has the shape [1, 20] for 2",
        ),
        (lambda logits, _: {"logits": logits, "embedding": logits.mean()}, "output embedding: has the shape [] for 2"),
        (lambda logits, _: {"logits": logits}, "the model returns no 'embedding' (it returns: logits [2, 20])."),
        (lambda logits, _: logits[1:], "a tensor of shape [1, 20] for 2 samples, expected one row a sample."),
        (lambda logits, _: "logits", "the model returned a str for 2 samples, expected one row a sample."),
    ],
)
def test_an_output_without_a_row_for_each_sample_is_refused(
    tmp_path: Path, put: Callable[[Tensor, Tensor], object], message: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        dump(tmp_path / "store", make_options(output=EVERYTHING), teacher=Several(put))

    assert not (tmp_path / "store").exists()


# Values alone.


@BOTH_FORMATS
def test_a_store_may_hold_values_alone(tmp_path: Path, format: FormatName, capsys: pytest.CaptureFixture[str]) -> None:
    store = dump_and_open(tmp_path / "store", Several(), "embedding:values", format=format)

    inspect(str(tmp_path / "store"))

    shown = capsys.readouterr().out
    assert "none: this store holds values alone" in shown
    assert "embedding = " in shown
    assert (store.has_labels, store.manifest.statistics) == (False, {})
    assert store.read_features("embedding", [3, 0]).shape == (2, HEIGHT * WIDTH)
    with pytest.raises(StoreMismatch, match="holds no soft labels, only values"):
        store.read([0])


@BOTH_FORMATS
def test_one_score_a_sample_is_stored_as_a_row_of_one(tmp_path: Path, format: FormatName) -> None:
    teacher = Several(lambda logits, embedding: {"logits": logits, "score": embedding.sum(dim=1)})

    store = dump_and_open(tmp_path / "store", teacher, "logits", "score:values", format=format)

    expected_N1 = images_of(Pictures(), range(COUNT)).mean(dim=1).flatten(1).sum(dim=1, keepdim=True)
    torch.testing.assert_close(store.read_features("score", range(COUNT)), expected_N1.half().float())


def test_views_are_added_to_values_alone(tmp_path: Path) -> None:
    options: dict[str, Any] = {"output": ("embedding:values",), "teacher": Several()}
    dump_views(tmp_path / "alone", 2, **options)
    before = open_store(tmp_path / "alone").read_features("embedding", range(COUNT), view=1)
    dump_views(tmp_path / "store", 1, **options)

    dump_views(tmp_path / "store", "+1", **options)

    assert open_store(tmp_path / "store").read_features("embedding", range(COUNT), view=1).equal(before)


def test_values_alone_have_no_k_to_survey() -> None:
    with pytest.raises(InvalidOption, match="no output of kind classes is asked for"):
        survey_teacher(as_teacher(Several()), Pictures(), make_options(output=("embedding:values",)))


# A row for each position.


@pytest.mark.parametrize("as_map", [True, False], ids=["a map", "a sequence"])
@BOTH_FORMATS
def test_logits_at_each_position_are_rows_of_their_sample(tmp_path: Path, as_map: bool, format: FormatName) -> None:
    teacher = Dense(as_map=as_map)

    store = dump_and_open(tmp_path / "store", teacher, "logits", format=format)

    logits_NLC = _as_sequence(outputs_of(teacher, make_options())["logits"]) if as_map else None
    logits_NLC = outputs_of(teacher, make_options())["logits"] if logits_NLC is None else logits_NLC
    labels = store.read(range(COUNT))
    assert_same_labels(labels, top(logits_NLC.flatten(end_dim=1)))
    assert labels.counts_B is not None
    assert labels.counts_B.tolist() == [HEIGHT * WIDTH] * COUNT
    assert store.read_units([4]) is not None
    some = store.read([40, 3])
    assert_same_labels(some, top(logits_NLC[[40, 3]].flatten(end_dim=1)))
    assert store.read_units([40, 3]).tolist() == list(range(HEIGHT * WIDTH)) * 2  # type: ignore[union-attr]


def test_a_map_and_a_sequence_of_the_same_logits_are_the_same_rows(tmp_path: Path) -> None:
    stores = [dump_and_open(tmp_path / str(as_map), Dense(as_map=as_map), "logits") for as_map in (True, False)]

    assert_same_labels(*(store.read(range(COUNT)) for store in stores))


def test_one_row_a_sample_stands_beside_one_a_position(tmp_path: Path) -> None:
    teacher = Dense()

    store = dump_and_open(tmp_path / "store", teacher, "whole", "logits", "map:values=layer:head")

    assert [(each.name, each.units) for each in store.manifest.outputs] == [
        ("whole", False),
        ("logits", True),
        ("map", False),
    ]
    found = outputs_of(teacher, make_options())
    assert_same_labels(store.read([7, 2]), top(found["whole"][[7, 2]]))
    dense = store.with_labels("logits").read([7, 2])
    assert_same_labels(dense, top(_as_sequence(found["logits"])[[7, 2]].flatten(end_dim=1)))
    assert store.read_features("map", [7]).shape == (1, DENSE_CLASSES, HEIGHT, WIDTH)


@BOTH_FORMATS
def test_views_of_positions_are_added(tmp_path: Path, format: FormatName) -> None:
    options: dict[str, Any] = {"output": ("logits",), "teacher": Dense(), "format": format}
    dump_views(tmp_path / "alone", 2, augment=AUGMENT, **options)
    dump_views(tmp_path / "store", 1, augment=AUGMENT, **options)

    dump_views(tmp_path / "store", "+1", augment=AUGMENT, **options)

    found, expected = contents(tmp_path / "store"), contents(tmp_path / "alone")
    assert {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)} == {
        "manifest.json"
    }


@BOTH_FORMATS
@pytest.mark.parametrize("shard_rows", [16, None])
def test_a_dump_of_positions_goes_on_and_is_found_finished(
    tmp_path: Path, format: FormatName, shard_rows: int | None
) -> None:
    options, source = make_options(output=("logits",), format=format, shard_rows=shard_rows), Pictures(count=200)
    dump(tmp_path / "alone", options, teacher=Dense(), source=source)
    with pytest.raises(KeyboardInterrupt):
        dump(tmp_path / "store", options, teacher=Dense(), source=source, on_progress=stop_at(100))

    summary = dump(tmp_path / "store", options, teacher=Dense(), source=source)

    assert contents(tmp_path / "store") == contents(tmp_path / "alone")
    assert summary.rows_computed > 0
    assert dump(tmp_path / "store", options, teacher=Dense(), source=source).rows_computed == 0


def test_a_survey_weighs_all_positions_of_a_sample(tmp_path: Path) -> None:
    options = make_options(output=("logits",), shard_rows=None)
    source = Pictures(count=512)

    found = survey_teacher(as_teacher(Dense()), source, options)

    shards = dump(tmp_path / "store", options, teacher=Dense(), source=source).manifest.shards
    weighed = sum(file.bytes for shard in shards for file in shard.files) / 512
    (chosen,) = [choice for choice in found.choices if choice.k == found.chosen_k]
    assert chosen.bytes_per_row == pytest.approx(weighed, rel=0.1)
    assert (found.num_samples, found.num_classes) == (512, DENSE_CLASSES)
