"""Import, train, export: by the program."""

import json
from pathlib import Path

import numpy as np
import pytest

from softlab.sources.parquet import open_parquet
from tests.cli.program import DATA, MLP, SHORT, Softlab, open_uncached
from tests.predictions.files import chat_answer, write_lines

SOURCE = ("--source", str(DATA / "test"), "--limit", "100")


@pytest.fixture(scope="module")
def keys() -> list[str]:
    source = open_parquet(str(DATA / "test"), fields={"image": "image"}, label_column="label")
    return list(source.keys)[:100]


@pytest.fixture
def probabilities(keys: list[str], tmp_path: Path) -> Path:
    p_NC = np.random.default_rng(0).dirichlet(np.ones(10), len(keys))
    np.savez(tmp_path / "p.npz", key=keys, probabilities=p_NC)
    return tmp_path / "p.npz"


def test_predictions_are_imported_verified_trained_from_and_exported(
    probabilities: Path, softlab: Softlab, tmp_path: Path
) -> None:
    store, out = tmp_path / "store.zarr", tmp_path / "student"

    imported = softlab("import", probabilities, *SOURCE, "--out", store, "--k", "10")
    inspected = softlab("inspect", store)
    verified = softlab("verify", store)
    limited = ("--source", str(DATA / "test"), "--set", "source.limit=100")
    trained = softlab("train-student", "--store", store, *limited, *MLP, *SHORT, "--out", out)
    exported = softlab("export", store, tmp_path / "t.csv")

    assert [each.code for each in (imported, inspected, verified, trained, exported)] == [0] * 5
    assert imported.facts()["rows"] == "100"
    assert inspected.facts()["teacher"].startswith("import:p.npz, probabilities that were imported, file ")
    assert "probabilities of 100 samples" in exported.out


def test_an_import_that_is_finished_is_left_alone(probabilities: Path, softlab: Softlab, tmp_path: Path) -> None:
    softlab("import", probabilities, *SOURCE, "--out", tmp_path / "store.zarr")

    again = softlab("import", probabilities, *SOURCE, "--out", tmp_path / "store.zarr")

    assert again.facts()["rate"] == "nothing to do, it was finished"


@pytest.mark.filterwarnings("default")
def test_the_answers_of_a_chat_service_become_labels_of_the_names_of_classes(
    keys: list[str], softlab: Softlab, tmp_path: Path
) -> None:
    lines = [chat_answer(key, {"Sandal": -0.2, " Sneaker": -2.0, "Well": -4.5}) for key in keys]
    file = write_lines(tmp_path / "answers.jsonl", lines)

    answer = softlab("import", file, *SOURCE, "--out", tmp_path / "store.zarr")

    assert answer.code == 0, answer.err
    assert "of the probability is on tokens that name no class" in answer.err
    store = open_uncached(tmp_path / "store.zarr")
    assert (store.k, store.num_classes, store.temperatures) == (2, 10, (1.0,))
    names = store.class_names or ()
    assert [names[place] for place in store.read([0]).class_ids_BK[0].tolist()] == ["Sandal", "Sneaker"]


def test_what_is_wrong_is_one_line_that_names_a_flag(probabilities: Path, softlab: Softlab, tmp_path: Path) -> None:
    fewer = ("--source", str(DATA / "test"), "--limit", "99")

    foreign = softlab("import", probabilities, *fewer, "--out", tmp_path / "store.zarr")
    nowhere = softlab("import", tmp_path / "no.csv", *SOURCE, "--out", tmp_path / "store.zarr")

    assert (foreign.code, nowhere.code) == (1, 1)
    assert foreign.err.count("\n") == nowhere.err.count("\n") == 1
    assert "1 of its 100 keys are of no sample" in foreign.err
    assert "predictions.extra_keys" in foreign.err
    assert "there is no such file of predictions" in nowhere.err


def test_a_chain_may_begin_with_an_import(probabilities: Path, softlab: Softlab, tmp_path: Path) -> None:
    recipe = tmp_path / "chain.toml"
    recipe.write_text(
        f"""
        [common]
        source.path = {json.dumps(str(DATA / "test"))}
        source.limit = 100

        [[stage]]
        command = "import"
        out = {json.dumps(str(tmp_path / "store.zarr"))}
        predictions.path = {json.dumps(str(probabilities))}

        [[stage]]
        command = "train-student"
        store = [{json.dumps(str(tmp_path / "store.zarr"))}]
        out = {json.dumps(str(tmp_path / "run"))}
        student.mlp.model = "softlab:grey_mlp"
        run.epochs = 1
        """
    )

    answer = softlab("chain", recipe)

    assert answer.code == 0, answer.err
    assert (tmp_path / "run/mlp/last.safetensors").exists()
