"""Students of a language model by recipe, with the texts and without them."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from softlab.errors import InvalidOption
from softlab.recipes.advise import AdviseRecipe
from softlab.recipes.building import recipe_from
from softlab.recipes.dump import DumpRecipe
from softlab.recipes.evaluate import EvaluateRecipe
from softlab.recipes.train import TrainRecipe
from tests.modalities.tokens.llamas import DOCUMENTS, save_llama

SMALL = {"model": "softlab:tokens_transformer", "arguments": {"width": 16, "num_layers": 1, "num_heads": 2}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Llama, its texts, and a store of both."""
    root = tmp_path_factory.mktemp("made")
    save_llama(root / "llama")
    pq.write_table(pa.table({"text": DOCUMENTS}), root / "texts.parquet")
    told = {
        "source": {"path": str(root / "texts.parquet"), "fields": {"text": "text"}},
        "teacher": {
            "model": f"hf:{root / 'llama'}",
            "arguments": {"task": "causal"},
            "input": {"modality": "tokens"},
        },
        "out": str(root / "store"),
    }
    recipe_from(DumpRecipe, told, where="here").run()
    return root


def train(made: Path, out: Path, *, tokenizer: str | None = "llama", **source: Any) -> dict[str, Any]:
    named = {} if tokenizer is None else {"tokenizer": str(made / tokenizer)}
    told = {
        "store": [str(made / "store")],
        "source": source,
        "out": str(out),
        "input": {"modality": "tokens", **named},
        "loss": {"temperature": 1.0},
        "teachers": {"alpha": 0.7},
        "run": {"epochs": 1, "batch_size": 4},
        "student": {"small": SMALL},
    }
    recipe_from(TrainRecipe, told, where="here").run()
    return load_file(out / "small/last.safetensors")


def test_students_of_the_tokens_in_a_store_are_those_of_the_texts(made: Path, tmp_path: Path) -> None:
    with_texts = train(made, tmp_path / "texts", path=str(made / "texts.parquet"), fields={"text": "text"})

    without = train(made, tmp_path / "tokens", path=f"store:{made / 'store'}")

    assert with_texts.keys() == without.keys()
    assert all(each.equal(without[name]) for name, each in with_texts.items())


def test_the_tokens_in_a_store_are_read_without_a_tokenizer(made: Path, tmp_path: Path) -> None:
    with_it = train(made, tmp_path / "with", path=f"store:{made / 'store'}")

    without = train(made, tmp_path / "without", tokenizer=None, path=f"store:{made / 'store'}")

    assert with_it.keys() == without.keys()
    assert all(each.equal(without[name]) for name, each in with_it.items())
    told = {
        "model": {**SMALL, "weights": str(tmp_path / "without/small/last.safetensors")},
        "source": {"path": str(made / "texts.parquet"), "fields": {"text": "text"}},
        "input": {"modality": "tokens"},
    }
    with pytest.raises(InvalidOption, match=r"here are texts\. Name the teacher's tokenizer as `input\.tokenizer`"):
        recipe_from(EvaluateRecipe, told, where="here").run()


def test_what_a_store_tells_by_itself_is_not_said_again(made: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=r"a store tells all but `source\.limit` by itself"):
        train(made, tmp_path, path=f"store:{made / 'store'}", label_column="grade")


def test_advice_on_sampled_rows_tries_alphas_alone(made: Path, tmp_path: Path) -> None:
    told = {
        "store": [str(made / "store")],
        "source": {"path": f"store:{made / 'store'}"},
        "valid": {"path": f"store:{made / 'store'}"},
        "out": str(tmp_path),
        "input": {"modality": "tokens"},
        "run": {"epochs": 1, "batch_size": 2},
        "student": {"small": SMALL},
        "advise": {"half": False},
    }

    found = recipe_from(AdviseRecipe, told, where="here").advise_on()

    names = {trial.result.name for trial in found.rounds[0].trials}
    assert names == {"kl-T1-alpha1", "kl-T1-alpha0_7", "kl-T1-alpha0_3", "hard"}
    assert found.best.result.best_by == "perplexity"
    assert found.best.score < 0, "less is better"
    (evidence,) = found.evidence
    assert evidence.at == ()
    assert evidence.entropy is not None
