"""Logits of causal language models that aren't computed yet, compared with those that transformers gives."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from softlab.errors import ModelError, RandomWeights
from softlab.labels.lazy_logits import LazyLogits
from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from softlab.models.build import ModelOptions, build_model
from softlab.models.causal_reader import CausalReader
from softlab.models.inherit import InheritOptions, inherit
from softlab.models.rows import logits_of
from softlab.models.weights import weights_fingerprint
from tests.modalities.tokens.llamas import DOCUMENTS, save_llama

CPU = torch.device("cpu")
IDS = {"input_ids": torch.arange(20).reshape(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.int64)}

KINDS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {"tie_word_embeddings": True},
    "Gemma2": {"final_logit_softcapping": 1.5, "head_dim": 8},
    "Granite": {"logits_scaling": 8.0},
    "Cohere": {"logit_scale": 0.25},
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


def build(folder: Path, *, told: dict[str, int] | None = None, **arguments: object) -> Any:
    return build_model(ModelOptions(model=f"hf:{folder}", arguments={"task": "causal", **arguments}), told=told)


def own_model(folder: Path, **options: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


@torch.no_grad()
def lazy_of(model: nn.Module, **inputs: torch.Tensor) -> LazyLogits:
    logits = model.eval()(**inputs)["logits"]
    assert isinstance(logits, LazyLogits)
    return logits


@pytest.mark.parametrize("kind", list(KINDS))
def test_they_are_the_models_own_with_its_scale_and_softcap(tmp_path: Path, kind: str) -> None:
    folder = save_llama(tmp_path, kind=kind, **KINDS[kind])
    with torch.no_grad():
        own_BLC = own_model(folder)(**IDS).logits

    model = build(folder)
    for _ in range(2):  # the first is checked
        logits = lazy_of(model, **IDS)
        assert logits.shape == (2, 10, 384)
        torch.testing.assert_close(logits.whole(), own_BLC.float())


def test_a_vocabulary_that_is_filled_up_is_cut_to_the_tokenizers(llama: Path) -> None:
    logits = lazy_of(build(llama, told={"vocab_size": 320, "max_length": 64}), **IDS)

    assert logits.shape == (2, 10, 320)
    with torch.no_grad():
        torch.testing.assert_close(logits.whole(), own_model(llama)(**IDS).logits[..., :320])


@pytest.mark.parametrize(("tokens", "rows"), [(320, 2000), (400, 384)])
def test_another_vocabulary_is_refused(tmp_path: Path, tokens: int, rows: int) -> None:
    folder = save_llama(tmp_path, vocab_size=rows)

    with pytest.raises(ModelError, match=rf"the tokenizer has {tokens:,} tokens, and the model.* {rows:,}"):
        build(folder, told={"vocab_size": tokens})


def test_logits_of_half_precision_are_not_rounded_to_it(tmp_path: Path) -> None:
    folder = save_llama(tmp_path, dtype="bfloat16")
    model, rounded = build(folder, dtype="bfloat16"), build(folder, dtype="bfloat16", head_dtype="auto")

    logits_BLC, rounded_BLC = lazy_of(model, **IDS).whole(), lazy_of(rounded, **IDS).whole()

    assert rounded_BLC.equal(rounded_BLC.bfloat16().float())
    assert not logits_BLC.equal(logits_BLC.bfloat16().float())
    with torch.no_grad():
        own_BLC = own_model(folder, dtype=torch.bfloat16)(**IDS).logits.float()
    torch.testing.assert_close(rounded_BLC, own_BLC, atol=0.0, rtol=1e-2)
    assert (logits_BLC - rounded_BLC).abs().max() < 2**-7 * logits_BLC.abs().max()


@pytest.mark.parametrize(("head_dtype", "dtype"), [("float32", torch.float32), ("auto", torch.bfloat16)])
def test_under_autocast_the_output_layer_is_as_its_dtype_says(llama: Path, head_dtype: str, dtype: torch.dtype) -> None:
    model = build(llama, head_dtype=head_dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lazy_of(model, **IDS).dtype == dtype


def test_a_model_that_makes_something_else_of_its_products_is_refused(llama: Path) -> None:
    model = own_model(llama)
    model.config.final_logit_softcapping = 2.0  # which a Llama doesn't look at
    reader = CausalReader(model, name="hf:llama")

    with pytest.raises(ModelError, match=r"hf:llama: its logits differ by .* \(scale 1, softcap 2.0\)"):
        reader(**IDS)
    assert model(**IDS).logits.shape == (2, 10, 384)


def test_what_has_no_output_layer_over_a_vocabulary_is_no_causal_model(llama: Path) -> None:
    with pytest.raises(ModelError, match=r"its output layer is .*, expected a plain Linear over the vocabulary"):
        build(llama, lora={"r": 2, "target_modules": ["lm_head"]})


def test_rows_are_those_of_the_tokens_that_count(llama: Path) -> None:
    options = TokensInput(tokenizer=str(llama))
    collated = MODALITY.collate([MODALITY.decode(text) for text in DOCUMENTS[:3]], options)
    with torch.no_grad():
        rows = logits_of(
            build(llama, told=MODALITY.model_arguments(options)).eval(),
            collated.inputs,
            device=CPU,
            autocast="none",
            counted=collated.units,
        )
        assert collated.units is not None
        assert collated.units.numbers_R is not None
        assert isinstance(rows.rows, LazyLogits)
        assert rows.rows.shape == (len(collated.units.keys_R), 320)
        assert rows.counts_B is not None
        assert rows.positions_R is not None
        assert rows.positions_R.equal(collated.units.numbers_R)
        for number in range(3):  # alone, nothing is filled up
            alone = MODALITY.collate([MODALITY.decode(DOCUMENTS[number])], options).inputs.named["input_ids"]
            own_LC = own_model(llama)(input_ids=alone).logits[0, :-1, :320]
            torch.testing.assert_close(rows.rows[rows.extent(number)].whole(), own_LC, atol=1e-4, rtol=1e-4)


def test_gradients_reach_all_weights(llama: Path) -> None:
    model, own = build(llama), own_model(llama)

    for logits in (model(**IDS)["logits"].whole(), own(**IDS).logits):
        logits.logsumexp(dim=2).sum().backward()

    for (name, ours), theirs in zip(model.named_parameters(), own.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_attention_is_computed_as_the_arguments_say(llama: Path) -> None:
    logits = [lazy_of(build(llama, attn_implementation=way), **IDS).whole() for way in ("eager", "sdpa")]

    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)
    assert [build(llama, attn_implementation=way).config._attn_implementation for way in ("eager", "sdpa")] == [
        "eager",
        "sdpa",
    ]


def test_a_student_of_random_weights_has_the_tokenizers_vocabulary_and_sizes_of_its_own(llama: Path) -> None:
    with pytest.warns(RandomWeights):
        student = build(
            llama,
            told={"vocab_size": 320, "max_length": 64},
            random=True,
            num_hidden_layers=1,
            hidden_size=16,
            attn_implementation="eager",
        )

    assert lazy_of(student, **IDS).shape == (2, 10, 320)
    assert student.get_output_embeddings().weight.shape == (320, 16)
    assert student.config._attn_implementation == "eager"


def test_a_student_starts_from_layers_of_its_teacher(llama: Path) -> None:
    teacher = build(llama)
    with pytest.warns(RandomWeights):
        student = build(llama, random=True, num_hidden_layers=1)
    kept = {"model.layers.{i}": "model.layers.{i}", "model.embed_tokens": "model.embed_tokens"}

    inherit(
        student,
        teacher,
        InheritOptions(map=kept | {"model.norm": "model.norm", "lm_head": "lm_head"}, first=1),
    )

    theirs = teacher.state_dict()
    for name, tensor in student.state_dict().items():
        assert tensor.equal(theirs[name.replace("layers.0", "layers.1")])


def test_of_a_student_with_adapters_these_alone_learn(llama: Path) -> None:
    torch.manual_seed(0)
    student = build(llama, lora={"r": 2, "target_modules": ["q_proj", "v_proj"]})

    learning = [name for name, parameter in student.named_parameters() if parameter.requires_grad]
    assert len(learning) == 2 * 2 * 2
    assert all("lora_" in name for name in learning)
    with torch.no_grad():  # an adapter changes nothing before it has learnt
        torch.testing.assert_close(lazy_of(student, **IDS).whole(), own_model(llama)(**IDS).logits)


def test_copies_are_models_of_their_own(llama: Path) -> None:
    model = build(llama).eval()
    lazy_of(model, **IDS)

    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with torch.no_grad():
            copied.get_output_embeddings().weight.mul_(2)
        torch.testing.assert_close(lazy_of(copied, **IDS).whole(), 2 * lazy_of(model, **IDS).whole())


@pytest.mark.slow
def test_a_compiled_model_gives_the_same(llama: Path) -> None:
    model = build(llama).eval()
    compiled: Any = torch.compile(model, backend="eager")

    with torch.no_grad():
        for _ in range(3):
            torch.testing.assert_close(compiled(**IDS)["logits"].whole(), lazy_of(model, **IDS).whole())


def test_no_layer_has_another_name(llama: Path) -> None:
    assert build(llama).state_dict().keys() == own_model(llama).state_dict().keys()
    assert weights_fingerprint(build(llama)) == weights_fingerprint(own_model(llama))
