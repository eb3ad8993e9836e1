"""Dumps of causal language models whose samples share sequences, or whose attention is computed in another way."""

import warnings
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import softlab
from softlab.errors import DamagedStore, OddSource, RandomWeights, StoreMismatch
from softlab.manifest import TokensRecord, encode
from softlab.modalities.modality import model_arguments
from softlab.modalities.tokens.inputs import TokensInput
from softlab.models.build import ModelOptions, build_model
from softlab.teacher import plan
from tests.modalities.tokens.llamas import DOCUMENTS, save_llama
from tests.student.flat_options import train_options


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("texts") / "documents.parquet"
    pq.write_table(pa.table({"text": DOCUMENTS}), path)
    return softlab.open_source(softlab.SourceOptions(path=str(path), fields={"text": "text"}), modality="tokens")


def dump(llama: Path, source: Any, out: Path, *, pack: bool = False, way: str | None = "sdpa", **options: Any) -> Any:
    asked = {} if way is None else {"attn_implementation": way}
    model = ModelOptions(model=f"hf:{llama}", arguments={"task": "causal", **asked})
    input = TokensInput(tokenizer=str(llama), pack=pack)
    teacher = softlab.Teacher(
        module=build_model(model, told=model_arguments(input)),
        name=model.model,
        arguments=model.arguments,
        input=input,
    )
    softlab.dump_teacher(teacher, source, out, softlab.DumpOptions(**{"shard_rows": 4} | options))
    return softlab.open_store(out)


def test_a_store_is_the_same_whether_samples_share_sequences_or_not(llama: Path, source: Any, tmp_path: Path) -> None:
    packed, plain = (dump(llama, source, tmp_path / str(each), pack=each) for each in (True, False))

    samples = range(len(DOCUMENTS))
    one, two = packed.read(samples), plain.read(samples)
    assert one.class_ids_BK.equal(two.class_ids_BK)
    torch.testing.assert_close(one.logits_BK, two.logits_BK)
    assert packed.read_units(samples).equal(plain.read_units(samples))
    for ours, theirs in zip(packed.read_tokens(samples), plain.read_tokens(samples), strict=True):
        assert ours.tolist() == theirs.tolist()
    assert packed.manifest.inputs[0].options["pack"] is True


def test_a_dump_does_not_go_on_with_another_attention(llama: Path, source: Any, tmp_path: Path) -> None:
    """Its logits differ in their last bits."""
    dump(llama, source, tmp_path / "store")

    with pytest.raises(StoreMismatch, match=r"`teacher.arguments.attn_implementation` was 'sdpa', is now 'eager'"):
        dump(llama, source, tmp_path / "store", way="eager", views="+1")


def test_the_attention_that_a_teacher_used_is_recorded_where_none_was_asked_for(
    llama: Path, source: Any, tmp_path: Path
) -> None:
    store = dump(llama, source, tmp_path / "store", way=None)

    assert store.manifest.teacher.arguments == {"task": "causal", "attn_implementation": "sdpa"}
    with pytest.raises(StoreMismatch, match=r"`teacher.arguments.attn_implementation` was 'sdpa', is now 'eager'"):
        dump(llama, source, tmp_path / "store", way="eager", views="+1")
    assert dump(llama, source, tmp_path / "store", way="sdpa", views="+1").num_views == 2


def test_a_store_that_does_not_tell_its_attention_gets_further_views(
    llama: Path, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(plan, "attention_of", lambda module: None)
        dump(llama, source, tmp_path / "store", way=None)

    store = dump(llama, source, tmp_path / "store", way=None, views="+1")

    assert (store.num_views, store.manifest.teacher.arguments) == (2, {"task": "causal"})


@pytest.mark.parametrize("by_length", [False, True])
def test_students_learn_from_the_tokens_of_a_store_as_from_the_texts(
    llama: Path, source: Any, tmp_path: Path, by_length: bool
) -> None:
    store = dump(llama, source, tmp_path / "store")
    input = TokensInput(tokenizer=str(llama), max_length=40)
    options = train_options(epochs=2, batch_size=4, device="cpu", track=(), alpha=0.5, batch_by_length=by_length)

    def trained(samples: Any) -> float | None:
        torch.manual_seed(0)
        model = ModelOptions(model="softlab:tokens_transformer", arguments={"width": 16, "num_layers": 1})
        student = build_model(model, told=model_arguments(input))
        (result,) = softlab.train_students({"small": student}, samples, [store], options, input=input)
        return result.train_loss

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OddSource)  # what is cut off
        losses = [trained(each) for each in (source, softlab.stored_source(store))]

    assert losses[0] is not None
    assert losses[1] == pytest.approx(losses[0], abs=1e-6 if not by_length else 0.3)  # other samples share a batch


def test_a_manifest_that_tells_fewer_tokens_than_there_are_is_refused(llama: Path, source: Any, tmp_path: Path) -> None:
    manifest = dump(llama, source, tmp_path / "store").manifest
    shards = tuple(
        msgspec.structs.replace(each, tokens=TokensRecord(read=1, cut_off=0), cut_off=0) for each in manifest.shards
    )
    (tmp_path / "store/manifest.json").write_bytes(encode(msgspec.structs.replace(manifest, shards=shards)))

    with pytest.raises(DamagedStore, match=rf"its manifest tells {len(shards)}\. Get the store again"):
        softlab.open_store(tmp_path / "store").read_tokens([0])


def test_of_a_student_with_adapters_its_own_weights_stay(llama: Path, source: Any, tmp_path: Path) -> None:
    store, input = dump(llama, source, tmp_path / "store"), TokensInput(tokenizer=str(llama))
    adapters = {"r": 2, "target_modules": ["q_proj", "v_proj"]}
    arguments = {"task": "causal", "random": True, "num_hidden_layers": 1, "lora": adapters}
    with pytest.warns(RandomWeights):
        student = build_model(ModelOptions(model=f"hf:{llama}", arguments=arguments), told=model_arguments(input))
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    options = train_options(epochs=8, batch_size=4, device="cpu", track=(), alpha=1.0, learning_rate=1e-2)

    softlab.train_students({"small": student}, source, [store], options, input=input)

    changed = {name for name, tensor in student.state_dict().items() if not tensor.equal(before[name])}
    assert len(changed) == 4
    assert all("lora_" in name for name in changed)
