"""Samples that share a sequence, compared with those that have one of their own."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from softlab.errors import ModelError
from softlab.labels.lazy_logits import LazyLogits
from softlab.modalities.inputs import Collated
from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from softlab.modalities.tokens.packing import pack
from softlab.models.build import ModelOptions, build_model
from softlab.models.rows import OutputRows, logits_of
from tests.modalities.tokens.llamas import DOCUMENTS, save_llama

TEXTS = [text[:length] for text, length in zip(DOCUMENTS, (80, 9, 40, 14, 1, 26, 3, 59), strict=True)]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30))
def test_each_sample_has_a_place_of_its_own_in_few_sequences(lengths: list[int]) -> None:
    places = pack(lengths, max_length=20)

    taken = [
        (place.sequence, place.start + token)
        for place, own in zip(places, lengths, strict=True)
        for token in range(own)
    ]
    assert len(set(taken)) == len(taken)
    assert max(at for _, at in taken) < 20
    sequences = [place.sequence for place in places]
    assert list(dict.fromkeys(sequences)) == list(range(max(sequences) + 1))
    used = [0] * len(set(sequences))
    for number, own in zip(sequences, lengths, strict=True):
        used[number] += own
    assert all(sum(pair) > 20 for pair in combinations(used, 2))  # no two would fit into one


def test_the_fullest_sequence_is_taken_that_has_room() -> None:
    assert pack([6, 3, 9, 1], max_length=10) == ((0, 0), (0, 6), (1, 0), (1, 9))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"), max_length=48)


def collated_of(folder: Path, *, pack: bool) -> Collated:
    options = TokensInput(tokenizer=str(folder), pack=pack)
    return MODALITY.collate([MODALITY.decode(text) for text in TEXTS], options)


def built(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    told = {"vocab_size": 320, "max_length": 48}
    return build_model(ModelOptions(model=name, arguments=arguments), told=told).eval()


def rows_of(model: nn.Module, collated: Collated) -> OutputRows:
    with torch.no_grad():
        return logits_of(model, collated.inputs, device=torch.device("cpu"), autocast="none", counted=collated.units)


def test_rows_and_what_is_told_of_samples_are_those_without_packing(llama: Path) -> None:
    packed, plain = collated_of(llama, pack=True), collated_of(llama, pack=False)

    assert packed.inputs.named.keys() == {"input_ids", "position_ids"}
    assert len(packed) == len(plain) == len(TEXTS)
    assert len(packed.inputs.named["input_ids"]) < len(TEXTS)
    assert packed.inputs.named["input_ids"].numel() < 0.7 * plain.inputs.named["input_ids"].numel()
    assert (packed.tokens, packed.cut_off) == (plain.tokens, plain.cut_off)
    assert packed.units is not None
    assert plain.units is not None
    for name in ("rows_B", "numbers_R", "totals_B", "targets_R"):
        assert getattr(packed.units, name).equal(getattr(plain.units, name))
    ids = packed.inputs.named["input_ids"].flatten()
    assert packed.units.targets_R is not None
    assert ids[packed.units.keys_R + 1].equal(packed.units.targets_R)
    assert len(packed.inputs.to(torch.device("cpu"))) == len(TEXTS)


@pytest.mark.parametrize("way", ["sdpa", "eager", ""])
def test_each_sample_sees_itself_alone(llama: Path, way: str) -> None:
    model = (
        built(f"hf:{llama}", task="causal", attn_implementation=way)
        if way
        else built("softlab:tokens_transformer", width=16, num_layers=2)
    )

    packed, plain = (rows_of(model, collated_of(llama, pack=each)) for each in (True, False))

    assert isinstance(packed.rows, LazyLogits)
    assert isinstance(plain.rows, LazyLogits)
    torch.testing.assert_close(packed.rows.whole(), plain.rows.whole(), atol=1e-4, rtol=1e-4)
    assert packed.counts_B is not None
    assert plain.counts_B is not None
    assert packed.counts_B.equal(plain.counts_B)


class Mixing(nn.Module):
    """Leaves `position_ids` aside."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.layer = model.model.layers[0]
        self.forward_below = self.layer.forward
        self.layer.forward = self.without_mask

    def without_mask(self, states: Tensor, attention_mask: Tensor | None = None, **named: Any) -> Any:
        return self.forward_below(states, attention_mask=None, **named)


def test_a_model_in_which_samples_see_each_other_is_refused_before_its_first_batch(llama: Path) -> None:
    model = built(f"hf:{llama}", task="causal").train()
    Mixing(model)
    packed = collated_of(llama, pack=True).inputs.named

    with pytest.raises(ModelError, match=r"samples that share a sequence see each other: .* Leave `input.pack` out"):
        model(**packed)
    assert model.training
    assert all(each.training for each in model.modules())


def test_a_student_with_dropout_is_compared_without_it(llama: Path) -> None:
    model = built(f"hf:{llama}", task="causal", attention_dropout=0.5).train()

    assert len(model(**collated_of(llama, pack=True).inputs.named)["logits"]) < len(TEXTS)
    assert all(each.training for each in model.modules())


def test_what_is_packed_is_recorded_and_a_student_needs_not_do_the_same(llama: Path) -> None:
    from softlab.manifest import InputRecord
    from softlab.modalities.modality import decoding_for, options_by_name

    options = TokensInput(tokenizer=str(llama))
    assert "pack" not in options_by_name(options)
    record = InputRecord(field="text", modality="tokens", options=options_by_name(replace(options, pack=True)))
    assert record.options["pack"] is True
    settled, _ = MODALITY.settle_input(options, [])
    record.options.update(identity=settled.identity, max_length=settled.max_length)
    assert decoding_for(MODALITY, (settled,), [record])
