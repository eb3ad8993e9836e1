"""Teacher and student read different fields of one sample: a picture and its caption."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import softlab
from softlab.errors import InvalidOption, StoreMismatch, UnreadableSample
from softlab.recipes.building import load_recipe
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.evaluate import EvaluateRecipe
from softlab.recipes.train import TrainRecipe
from softlab.student.run_folder import StudentResult

COUNT, CLASSES = 32, 4
pytestmark = pytest.mark.filterwarnings("ignore::softlab.errors.RandomWeights")
WORDS = ("red apple", "blue sea", "green leaf", "grey sky")
FIELDS = "fields = {image = 'image', text = 'caption'}, key_column = 'key'"


def write_pairs(path: Path, *, captions: dict[int, str | None] | None = None) -> Path:
    """Pictures of 8 x 8 pixels with a caption each, of four kinds."""
    random, images = np.random.default_rng(0), []
    for index in range(COUNT):
        pixels = random.integers(0, 80, (8, 8, 3)).astype(np.uint8)
        pixels[..., index % 3] += np.uint8(40 * (index % CLASSES))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        images.append(file.getvalue())
    texts = [(captions or {}).get(index, f"{WORDS[index % CLASSES]} {index}") for index in range(COUNT)]
    keys, labels = [f"pair-{index:02d}" for index in range(COUNT)], [index % CLASSES for index in range(COUNT)]
    columns = {"key": keys, "image": images, "caption": pa.array(texts, pa.string()), "label": labels}
    pq.write_table(pa.table(columns), path)
    return path


def dump(pairs: Path, out: Path, *more: str) -> DumpRecipe:
    given = (
        f"out='{out}'",
        f"source={{path = '{pairs}', {FIELDS}}}",
        "teacher.model='torchvision:squeezenet1_1'",
        f"teacher.arguments={{num_classes = {CLASSES}}}",
        "teacher.input={modality = 'images', size = [32, 32]}",
        "dump={k = 4, coding = 'float32'}",
        "device.name='cpu'",
    )
    return load_recipe(DumpRecipe, assignments=[*given, *more])


def train(pairs: Path, store: Path, out: Path, *more: str) -> TrainRecipe:
    """Of a student that reads captions, and one that reads the picture in grey, as small as 4 pixels."""
    given = (
        *(f"out='{out}'", f"store=['{store}']", f"source={{path = '{pairs}', {FIELDS}}}"),
        "student.words={model = 'softlab:text_bag', arguments = {num_classes = 4}}",
        "student.words.input={modality = 'text', tokenizer = 'train:100', max_length = 16}",
        "student.grey={model = 'softlab:grey_mlp', arguments = {num_classes = 4}}",
        "student.grey.input={modality = 'images', size = [28, 28], channels = 1}",
        *("run={epochs = 2, batch_size = 8}", "device={name = 'cpu', workers = 0}", "log.track=[]"),
    )
    return load_recipe(TrainRecipe, assignments=[*given, *more])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.parquet")


@pytest.fixture(scope="module")
def store(pairs: Path) -> Path:
    out = pairs.with_name("store.zarr")
    dump(pairs, out).run()
    return out


def test_a_teacher_of_pictures_teaches_captions_and_smaller_pictures_in_one_pass(
    pairs: Path, store: Path, tmp_path: Path
) -> None:
    more = (f"valid={{path = '{pairs}', {FIELDS}}}", f"valid_store='{store}'")

    results = train(pairs, store, tmp_path / "run", *more).run()

    for each in results:
        assert isinstance(each, StudentResult)
        assert each.error is None
        assert each.last is not None
        assert {"accuracy", "teacher_kl"} <= each.last.values.keys()


def test_a_student_is_the_same_alone_and_beside_one_of_another_field(pairs: Path, store: Path, tmp_path: Path) -> None:
    both, alone = train(pairs, store, tmp_path / "both"), train(pairs, store, tmp_path / "alone")
    both.run()
    replace(alone, student={"words": alone.student["words"]}).run()

    weights = [(tmp_path / run / "words/last.safetensors").read_bytes() for run in ("both", "alone")]
    assert weights[0] == weights[1]


def test_a_student_of_captions_is_measured_against_the_teacher_of_pictures(
    pairs: Path, store: Path, tmp_path: Path
) -> None:
    train(pairs, store, tmp_path / "run").run()
    given = (
        *("model.model='softlab:text_bag'", "model.arguments={num_classes = 4}"),
        f"model.weights='{tmp_path / 'run/words/last.safetensors'}'",
        *("input={modality = 'text', max_length = 16, tokenizer = 'train:100'}", "device.name='cpu'"),
        *(f"source={{path = '{pairs}', {FIELDS}}}", f"store='{store}'"),
    )

    found, _ = load_recipe(EvaluateRecipe, assignments=list(given)).run()

    assert found.rows == COUNT
    assert {"teacher_kl", "teacher_agreement"} <= found.values.keys()


def test_a_caption_that_changed_is_another_sample(pairs: Path, store: Path, tmp_path: Path) -> None:
    """The teacher didn't read it, but students do: the store is of pictures with these captions."""
    changed = write_pairs(tmp_path / "changed.parquet", captions={3: "a red cow"})

    with pytest.raises(StoreMismatch, match=r"pair-03"):
        train(changed, store, tmp_path / "run", "check.verify_inputs=all").run()


def test_a_pair_with_one_half_missing_is_named(tmp_path: Path) -> None:
    halves = write_pairs(tmp_path / "halves.parquet", captions={5: None})

    with pytest.raises(UnreadableSample, match=r"sample 'pair-05' can't be read: the row holds no text"):
        dump(halves, tmp_path / "store.zarr").run()


def test_pairs_without_a_half_can_be_left_out(tmp_path: Path) -> None:
    halves = write_pairs(tmp_path / "halves.parquet", captions={5: None})
    out = tmp_path / "store.zarr"

    dump(halves, out, "source.skip_unreadable=true").run()

    assert softlab.open_store(out).num_samples == COUNT - 1
    train(halves, out, tmp_path / "run", "source.skip_unreadable=true").run()


def test_random_views_of_the_pictures_are_not_views_of_captions(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "store.zarr"
    dump(pairs, out, "augment.transforms=['RandomHorizontalFlip()']", "dump.views=2").run()

    with pytest.raises(InvalidOption, match=r"the students' inputs are of several modalities \(images, text\)"):
        train(pairs, out, tmp_path / "run").run()
