"""An embedding teacher from its dump to a student: every command takes a store without classes."""

from pathlib import Path

import pytest

from tests.cli.program import INPUT, SHORT, TEACHER, TEST, TRAIN, Softlab, assert_refused

VALUES = ("--output", "embedding:values=layer:pool")
LEARN = ("--loss", "cosine", "--alpha", "1")
STUDENT = ("--student", "mlp=softlab:grey_mlp", "--set", "student.mlp.arguments.num_classes=128")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("values-alone")


@pytest.fixture
def dumped(folder: Path, softlab: Softlab) -> Path:
    """Stores of embeddings of 200 training and 100 test images, made once."""
    for name, source in [("train.zarr", TRAIN), ("test.zarr", TEST)]:
        if not (folder / name).exists():
            assert softlab("dump-teacher", "--out", folder / name, *TEACHER, *source, *VALUES).code == 0
    return folder


def test_it_is_verified_shown_and_converted(dumped: Path, softlab: Softlab) -> None:
    assert "intact" in softlab("verify", dumped / "test.zarr").out
    shown = softlab("inspect", dumped / "test.zarr").facts()
    assert softlab("convert", dumped / "test.zarr", dumped / "test.parquet", "--format", "parquet").code == 0
    assert "intact" in softlab("verify", dumped / "test.parquet").out

    assert shown["classes"] == "none: this store holds values alone"
    assert shown["features"] == "embedding = pool:none as float16 [128]"
    assert_refused(softlab("inspect", dumped / "test.zarr", "--rows", "2"), "holds no soft labels, only values")


@pytest.mark.parametrize("columns", ["300", "60"])
def test_it_is_published_listed_and_pulled(
    dumped: Path, tmp_path: Path, softlab: Softlab, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    pushed = softlab("push", dumped / "test.zarr", tmp_path / "pub/vectors", "--licence", "CC0-1.0", "--terms", "")
    listed = softlab("catalog", tmp_path / "pub")
    pulled = softlab("pull", tmp_path / "pub/vectors@1", tmp_path / "pulled")

    assert (pushed.code, listed.code, pulled.code) == (0, 0, 0), (pushed.err, listed.err, pulled.err)
    assert "vectors@1" in listed.out
    assert "embedding" in listed.out
    assert "intact" in softlab("verify", tmp_path / "pulled").out


def test_a_student_learns_it_and_is_measured(dumped: Path, tmp_path: Path, softlab: Softlab) -> None:
    run, valid = tmp_path / "run", ("--valid", *TEST[1:2], "--set", "valid.limit=100")
    train = ("train-student", "--store", dumped / "train.zarr", "--valid-store", dumped / "test.zarr", "--out", run)

    answer = softlab(*train, *TRAIN, *valid, *INPUT, *STUDENT, *LEARN, *SHORT)

    assert answer.code == 0, answer.err
    assert "overlap@10 %" in answer.out
    assert "accuracy %" not in answer.out
    model = ("--model", "softlab:grey_mlp", "--set", "model.arguments.num_classes=128")
    measure = ("evaluate", *model, "--weights", run / "mlp/last.safetensors", *TEST, "--store", dumped / "test.zarr")
    facts = softlab(*measure, "--output", "embedding").facts()
    assert {"cosine to the teacher", "squared error to the teacher", "accuracy of the 5 nearest neighbours"} < set(
        facts
    )
    assert "accuracy" not in facts
    assert_refused(softlab(*measure), "If the model gives such values, say `output = embedding` (--output embedding)")
    assert "overlap@10" in softlab("report", run, "--no-plots", "--out", tmp_path / "report").out


def test_a_recipe_that_is_written_for_it_is_one_that_runs(dumped: Path, tmp_path: Path, softlab: Softlab) -> None:
    recipe = tmp_path / "train.toml"

    store = ("--store", dumped / "train.zarr", "--source", TRAIN[1], "--student", "softlab:grey_mlp")
    written = softlab("init", "train", *store, "--out", recipe)
    short = ("--set", "source.limit=200", *SHORT, "--out", tmp_path / "run")
    trained = softlab("train-student", recipe, *short)

    assert written.code == 0, written.err
    assert trained.code == 0, trained.err
    text = recipe.read_text()
    assert 'name = "cosine"' in text
    assert "num_classes = 128" in text


def test_a_loss_on_classes_is_refused_with_the_flags_to_give(dumped: Path, tmp_path: Path, softlab: Softlab) -> None:
    train = ("train-student", "--store", dumped / "train.zarr", "--out", tmp_path, *TRAIN, *INPUT, *STUDENT, *SHORT)

    assert_refused(softlab(*train), "holds no soft labels to learn by kl", "(--loss cosine)", "(--alpha 1)")
