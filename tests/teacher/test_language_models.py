"""Dumps of causal language models: a row for each token that is learnt, sampled of a vocabulary."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer

from softlab.errors import InvalidOption, StoreMismatch, TeacherError
from softlab.labels.lazy_logits import LazyLogits
from softlab.loading.stored_source import stored_source
from softlab.manifest import SampledRecord
from softlab.modalities.modality import model_arguments
from softlab.modalities.opening import open_source
from softlab.modalities.tokens.inputs import TokensInput
from softlab.models.build import ModelOptions, build_model
from softlab.sharing.publish.figures import measure_figures
from softlab.sources.options import SourceOptions
from softlab.sources.source import Source
from softlab.store.convert import convert_store
from softlab.store.reader import Store, open_store
from softlab.store.verify import verify_store
from softlab.teacher.dump import DumpSummary, dump_teacher
from softlab.teacher.forward import Teacher
from softlab.teacher.options import DumpOptions
from softlab.teacher.survey import survey_teacher
from tests.modalities.tokens.llamas import DOCUMENTS, save_llama


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    path = tmp_path_factory.mktemp("texts") / "documents.parquet"
    pq.write_table(pa.table({"text": DOCUMENTS}), path)
    return open_source(SourceOptions(path=str(path), fields={"text": "text"}), modality="tokens")


def teacher_of(folder: Path, **options: Any) -> Teacher:
    model = ModelOptions(model=f"hf:{folder}", arguments={"task": "causal"})
    input = TokensInput(tokenizer=str(folder), **options)
    module = build_model(model, told=model_arguments(input))
    return Teacher(module=module, name=model.model, arguments=model.arguments, input=input)


def dump(llama: Path, source: Source, out: Path, **options: Any) -> DumpSummary:
    return dump_teacher(teacher_of(llama), source, out, DumpOptions(**{"shard_rows": 4} | options))


def logits_of(llama: Path, ids: np.ndarray[Any, Any]) -> torch.Tensor:
    """What transformers itself gives."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.from_numpy(ids)[None]).logits[0].double()
    return logits[:, :320]  # the rest fills the vocabulary up


def test_a_row_tells_the_distribution_over_the_token_that_follows(llama: Path, source: Source, tmp_path: Path) -> None:
    dump(llama, source, tmp_path / "store", resolution=64)
    store = open_store(tmp_path / "store")
    (ids,) = store.read_tokens([2])

    labels, units = store.read([2]), store.read_units([2])

    assert units is not None
    assert units.tolist() == list(range(len(ids) - 1))
    assert labels.entropy_B is not None
    expected = logits_of(llama, ids)[:-1].softmax(dim=1)
    weights_BK = (labels.logits_BK + labels.max_logit_B[:, None]).exp().double()
    head_BK = expected.gather(1, labels.class_ids_BK)
    is_head = head_BK >= 1 / 64
    torch.testing.assert_close(weights_BK[is_head], head_BK[is_head], rtol=0.13, atol=0)
    torch.testing.assert_close(weights_BK.sum(dim=1), torch.ones(len(ids) - 1).double(), rtol=0, atol=2e-3)
    entropy_B = -(expected * expected.log()).sum(dim=1)
    torch.testing.assert_close(labels.entropy_B.double(), entropy_B, rtol=0, atol=1 / 8 + 1e-4)  # one of two eighths


def test_a_store_tells_what_it_holds(llama: Path, source: Source, tmp_path: Path) -> None:
    summary = dump(llama, source, tmp_path / "store")

    (output,), read = summary.manifest.classes, summary.manifest.tokens_read
    statistics = summary.manifest.statistics["logits"]
    assert isinstance(output.selection, SampledRecord)
    assert (output.selection.resolution, output.units, output.absolute) == (16, True, False)
    assert read is not None
    assert (read.vocabulary, read.most) == (320, 64)
    assert statistics.rows == statistics.rows_with_target == summary.manifest.num_rows
    assert statistics.entries_per_row is not None
    assert 1 <= statistics.entries_per_row <= 17
    assert statistics.mean_entropy is not None
    assert 0 < statistics.mean_entropy < math.log(320)
    assert "sampled at 1/16 of 320" in summary.manifest.in_a_line
    assert verify_store(tmp_path / "store").is_intact


def test_neither_batches_nor_shards_nor_a_stop_change_what_is_drawn(
    llama: Path, source: Source, tmp_path: Path
) -> None:
    dump(llama, source, tmp_path / "one", batch_size=3)
    dump(llama, source, tmp_path / "two", batch_size=8, shard_rows=8)
    one, two = open_store(tmp_path / "one"), open_store(tmp_path / "two")

    for view in (0,):
        first, second = one.read(range(8), view=view), two.read(range(8), view=view)
        assert first.class_ids_BK.equal(second.class_ids_BK)
        torch.testing.assert_close(first.logits_BK, second.logits_BK)


def test_further_views_are_further_draws_of_the_same_rows(llama: Path, source: Source, tmp_path: Path) -> None:
    dump(llama, source, tmp_path / "store")
    dump(llama, source, tmp_path / "store", views="+1")
    whole = dump(llama, source, tmp_path / "whole", views=2)

    store = open_store(tmp_path / "store")
    first, second = store.read(range(8), view=0), store.read(range(8), view=1)
    both = open_store(tmp_path / "whole").read([3], view=1)
    assert store.num_views == whole.manifest.views.num_views == 2
    assert first.class_ids_BK[:, 0].equal(second.class_ids_BK[:, 0])
    assert not first.class_ids_BK.equal(second.class_ids_BK)
    assert both.class_ids_BK.equal(store.read([3], view=1).class_ids_BK)


@pytest.mark.parametrize("format", ["zarr", "parquet"])
def test_both_formats_hold_the_same(llama: Path, source: Source, tmp_path: Path, format: Any) -> None:
    dump(llama, source, tmp_path / "store", format=format)
    store = open_store(tmp_path / "store")
    convert_store(store, tmp_path / "other", format="parquet" if format == "zarr" else "zarr")

    assert_same(store, open_store(tmp_path / "other"))


def assert_same(one: Store, two: Store) -> None:
    samples = list(range(one.num_samples))
    for first, second in zip(one.read(samples).tensors(), two.read(samples).tensors(), strict=True):
        assert first.equal(second)
    for ours, theirs in zip(one.read_tokens(samples), two.read_tokens(samples), strict=True):
        assert ours.tolist() == theirs.tolist()


def test_the_tokens_that_were_read_are_a_data_set(llama: Path, source: Source, tmp_path: Path) -> None:
    dump(llama, source, tmp_path / "store")
    store = open_store(tmp_path / "store")

    found = stored_source(store)

    assert list(found.keys) == list(source.keys)
    assert [each.content_hash for each in found.read_many([1, 0])] == [source.read(i).content_hash for i in (1, 0)]
    (ids,) = store.read_tokens([1])
    assert found.read(1).fields["tokens"] is not None
    np.testing.assert_array_equal(np.asarray(found.read(1).fields["tokens"]), ids)


def test_a_dump_again_over_stored_tokens_gives_the_same_rows(llama: Path, source: Source, tmp_path: Path) -> None:
    dump(llama, source, tmp_path / "store")
    store = open_store(tmp_path / "store")

    dump(llama, stored_source(store), tmp_path / "again")

    assert_same(store, open_store(tmp_path / "again"))


def test_without_inputs_a_store_holds_no_tokens(llama: Path, source: Source, tmp_path: Path) -> None:
    summary = dump(llama, source, tmp_path / "store", inputs="none")

    assert summary.manifest.tokens_read is None
    with pytest.raises(StoreMismatch, match="doesn't hold what its teacher has read"):
        stored_source(open_store(tmp_path / "store"))


def test_k_asks_for_the_largest_logits(llama: Path, source: Source, tmp_path: Path) -> None:
    summary = dump(llama, source, tmp_path / "store", k=4, temperature=(1.0,))
    (ids,) = open_store(tmp_path / "store").read_tokens([0])

    labels = open_store(tmp_path / "store").read([0])

    assert summary.manifest.classes[0].in_a_line == "K=4 of 320, softmax"
    assert labels.class_ids_BK.equal(logits_of(llama, ids)[:-1].topk(4, dim=1).indices)


def test_a_teacher_that_changes_is_noticed_when_a_dump_goes_on(llama: Path, source: Source, tmp_path: Path) -> None:
    factor, teacher = [1.0], teacher_of(llama)

    def scale(_module: object, _inputs: object, outputs: dict[str, LazyLogits]) -> dict[str, LazyLogits]:
        return {name: replace(each, hidden=each.hidden * factor[0]) for name, each in outputs.items()}

    teacher.module.register_forward_hook(scale)
    dump_teacher(teacher, source, tmp_path / "store", DumpOptions(shard_rows=4))
    factor[0] = 1.5

    with pytest.raises(StoreMismatch, match="the teacher isn't the one that began"):
        dump_teacher(teacher, source, tmp_path / "store", DumpOptions(shard_rows=4, views="+1"))


class Shifted(torch.nn.Module):
    """Gives at each token a distribution that is sure of the token at another place."""

    def __init__(self, distance: int) -> None:
        super().__init__()
        self.distance, self.scale = distance, torch.nn.Parameter(torch.tensor(8.0))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        known_BL = input_ids.roll(-self.distance, dims=1)
        return torch.nn.functional.one_hot(known_BL, 320).float() * self.scale


@pytest.mark.parametrize(("distance", "reason"), [(0, "repeats the token it has read"), (2, "shifted already")])
def test_a_model_that_is_about_another_token_is_refused(
    llama: Path, source: Source, tmp_path: Path, distance: int, reason: str
) -> None:
    teacher = replace(teacher_of(llama), module=Shifted(distance), name="shifted")

    with pytest.raises(TeacherError, match=f"about another token than the next.* {reason}"):
        dump_teacher(teacher, source, tmp_path / "store", DumpOptions(shard_rows=4))


def test_a_model_that_knows_the_next_token_is_always_right(llama: Path, source: Source, tmp_path: Path) -> None:
    teacher = replace(teacher_of(llama), module=Shifted(1), name="knowing")

    summary = dump_teacher(teacher, source, tmp_path / "store", DumpOptions(shard_rows=4))

    assert summary.manifest.statistics["logits"].accuracy == 1.0


def test_a_document_with_nan_is_named_with_the_position(llama: Path, tmp_path: Path) -> None:
    documents = [f"{DOCUMENTS[5]} {number}" for number in range(40)]
    documents[5] = "He had §ot."
    pq.write_table(pa.table({"text": documents, "id": [f"d{i}" for i in range(40)]}), tmp_path / "documents.parquet")
    options = SourceOptions(path=str(tmp_path / "documents.parquet"), fields={"text": "text"}, key_column="id")
    source, teacher = open_source(options, modality="tokens"), teacher_of(llama)
    tokenizer = Tokenizer.from_file(str(llama / "tokenizer.json"))
    ids, others = (tokenizer.encode(text).ids for text in (documents[5], "".join(documents[:5] + documents[6:])))
    place = next(place for place, each in enumerate(ids) if each not in others)

    def spoil(_module: object, _args: object, named: dict[str, Any], outputs: dict[str, LazyLogits]) -> None:
        for each in outputs.values():
            each.hidden[named["input_ids"] == ids[place]] = math.nan

    teacher.module.register_forward_hook(spoil, with_kwargs=True)

    with pytest.raises(TeacherError, match=rf"such as 'd5' \(of the first one from position {place} on\)"):
        dump_teacher(teacher, source, tmp_path / "store", DumpOptions(shard_rows=4))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"selection": "sampled", "k": 4}, "dump.k with dump.selection = sampled"),
        ({"selection": "sampled", "temperature": (1.0, 2.0)}, "dump.temperature with dump.selection = sampled"),
        ({"selection": "sampled", "coding": "float32"}, "dump.coding with dump.selection = sampled"),
        ({"selection": "largest"}, "Choose as `dump.selection` auto, topk or sampled"),
        ({"resolution": 0}, "Choose `dump.resolution`"),
        ({"resolution": 255}, "Choose `dump.resolution`"),
        ({"inputs": "all"}, "dump.inputs = all"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidOption, match=told):
        DumpOptions(**options)


def test_a_plan_tells_what_each_resolution_weighs(llama: Path, source: Source) -> None:
    survey = survey_teacher(teacher_of(llama), source, DumpOptions())

    assert [each.resolution for each in survey.sampled] == [16, 32, 48]
    assert all(1 <= each.entries <= each.resolution + 1 for each in survey.sampled)
    assert sorted(each.bytes_per_unit for each in survey.sampled) == [each.bytes_per_unit for each in survey.sampled]
    assert survey.choices == ()
    assert json.dumps([each.head_mass for each in survey.sampled])


def test_a_published_store_tells_its_figures(llama: Path, source: Source, tmp_path: Path) -> None:
    summary = dump(llama, source, tmp_path / "store")

    figures = measure_figures(open_store(tmp_path / "store"))

    assert figures.rows == sum(figures.confidence) == summary.manifest.num_rows
    assert len(figures.captured_mass) == 1
    assert sum(figures.captured_mass[0]) == figures.rows
