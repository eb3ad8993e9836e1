import json
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from softlab.errors import ModelError, RandomWeights
from softlab.models.build import ModelOptions, build_model
from softlab.models.class_names import published_class_names
from softlab.models.weights import weights_fingerprint
from tests.modalities.text.berts import save_bert

IDS = {"input_ids": torch.tensor([[2, 5, 3]]), "attention_mask": torch.ones(1, 3, dtype=torch.int64)}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


def build(folder: Path, **arguments: object) -> nn.Module:
    return build_model(ModelOptions(model=f"hf:{folder}", arguments=arguments))


def test_a_folder_gives_its_classifier_with_its_weights(bert: Path) -> None:
    first, second = build(bert), build(bert)

    assert first.training
    assert first(**IDS)["logits"].shape == (1, 2)
    assert weights_fingerprint(first) == weights_fingerprint(second)


def test_an_encoder_gives_the_states_of_tokens(bert: Path) -> None:
    assert build(bert, task="embedding")(**IDS)["last_hidden_state"].shape == (1, 3, 16)


def test_a_model_is_in_float32_unless_another_dtype_is_asked_for(bert: Path) -> None:
    dtypes = [next(build(bert, **arguments).parameters()).dtype for arguments in ({}, {"dtype": "bfloat16"})]

    assert dtypes == [torch.float32, torch.bfloat16]


def test_a_folder_without_weights_gives_random_ones_and_says_so(tmp_path: Path, bert: Path) -> None:
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())

    with pytest.warns(RandomWeights, match="has the weights of its configuration alone, so they are random"):
        build(tmp_path)
    with pytest.warns(RandomWeights, match="has the weights of its configuration alone, so they are random"):
        assert build(bert, random=True, num_labels=5)(**IDS)["logits"].shape == (1, 5)


def test_a_head_that_no_file_has_is_random_and_named(tmp_path: Path, bert: Path) -> None:
    encoder = build(bert, task="embedding")
    encoder.save_pretrained(tmp_path)  # type: ignore[operator]

    with pytest.warns(RandomWeights, match=r"2 of its weights are random, as no file has them \(.*classifier.weight"):
        build(tmp_path)


def test_nothing_random_is_told_where_weights_come_from_elsewhere(tmp_path: Path, bert: Path) -> None:
    (tmp_path / "config.json").write_text((bert / "config.json").read_text())
    torch.save(build(bert).state_dict(), tmp_path / "trained.pt")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text((bert / "config.json").read_text())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = build_model(ModelOptions(model=f"hf:{tmp_path / 'model'}", weights=tmp_path / "trained.pt"))

    assert weights_fingerprint(loaded) == weights_fingerprint(build(bert))


def test_random_weights_are_for_as_many_tokens_as_the_input_tells(bert: Path) -> None:
    options = ModelOptions(model=f"hf:{bert}", arguments={"random": True})

    with pytest.warns(RandomWeights):
        built = build_model(options, told={"vocab_size": 77, "pad_id": 0, "max_length": 32})

    assert built.get_submodule("bert.embeddings.word_embeddings").weight.shape == (77, 16)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"vocab_size": 99}, "the tokenizer has 99 tokens, and the model knows 23. Leave `input.tokenizer` out"),
        ({"max_length": 33}, "texts have up to 33 tokens, and the model takes 32. Lower `input.max_length`"),
    ],
)
def test_an_input_that_it_can_not_take_is_refused(bert: Path, told: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(ModelOptions(model=f"hf:{bert}"), told=told)


def test_a_model_that_knows_no_token_types_is_not_given_any(tmp_path: Path) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=20, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=8)
    DistilBertForSequenceClassification(config).save_pretrained(tmp_path)
    model = build(tmp_path).eval()

    assert torch.equal(model(**IDS, token_type_ids=IDS["input_ids"])["logits"], model(**IDS)["logits"])


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path, bert: Path) -> None:
    told = json.loads((bert / "config.json").read_text()) | {"model_type": "own"}
    auto_map = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    (tmp_path / "config.json").write_text(json.dumps(told | {"auto_map": auto_map}))
    (tmp_path / "own.py").write_text("from pathlib import Path\nPath(__file__).with_name('was-run').touch()\n")

    with pytest.raises(ModelError, match="trust_remote_code"):
        build(tmp_path)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("argument", [{"task": "translation"}, {"dtype": "float8"}])
def test_an_unknown_task_or_dtype_is_refused_with_those_known(bert: Path, argument: dict[str, str]) -> None:
    ((name, value),) = argument.items()

    with pytest.raises(ModelError, match=f"{name} = '{value}' is unknown. (Did you mean|Known: )"):
        build(bert, **argument)


def test_the_classes_are_called_as_the_configuration_says(bert: Path) -> None:
    def names(**arguments: object) -> tuple[str, ...] | None:
        return published_class_names(ModelOptions(model=f"hf:{bert}", arguments=arguments))

    assert names() == ("good", "bad")
    assert names(num_labels=2) == ("good", "bad")
    assert names(num_labels=3) is None
    assert names(task="embedding") is None


def test_labels_that_nobody_has_named_are_no_names(tmp_path: Path) -> None:
    assert published_class_names(ModelOptions(model=f"hf:{save_bert(tmp_path, names=None)}")) is None


def test_a_folder_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"Check the folder, or the name on the hub, behind `hf:`") as refused:
        build(Path("runs/no/such/folder"))

    assert "\n" not in str(refused.value)


def test_a_damaged_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")

    with pytest.raises(ModelError, match=r"its config.json can't be read"):
        published_class_names(ModelOptions(model=f"hf:{tmp_path}"))
    with pytest.raises(ModelError, match=r"hf:"):
        build(tmp_path)


def test_a_missing_transformers_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)  # Python then says that it can't be imported

    with pytest.raises(ModelError, match=re.escape("pip install 'softlab[text]'")):
        build_model(ModelOptions(model="hf:bert"))
