"""Activations that are computed a second time: the same gradients, and models that can't do it."""

# Shape letters: B samples, L positions of a sample, C classes.

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption
from softlab.student.activations import checkpoint_activations
from softlab.student.learner import Learner
from softlab.student.objective import HARD_TARGETS
from tests.student.flat_options import learner_of, train_options
from tests.student.random_batch import small_module


class Reader(nn.Module):
    """Around a model of transformers, as softlab's own are."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=11,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=2,
            num_attention_heads=2,
            use_cache=False,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = LlamaForCausalLM(config)

    def forward(self, ids_BL: Tensor) -> Tensor:
        logits_BLC: Tensor = self.model(input_ids=ids_BL).logits
        return logits_BLC


def learner(module: nn.Module, **options: Any) -> Learner:
    return learner_of(
        module, HARD_TARGETS, train_options(epochs=1, device="cpu", **options), num_steps=1, steps_per_epoch=1
    )


def test_gradients_stay_what_they_are_and_layers_run_twice() -> None:
    ids_BL, gradients, calls = torch.arange(10).view(2, 5), [], []
    for again in (False, True):
        module = learner(Reader(), checkpoint_activations=again).module.train()
        counted: list[int] = []
        module.get_submodule("model.model.layers.0.mlp").register_forward_pre_hook(
            lambda *_, counted=counted: counted.append(1)
        )
        module(ids_BL).square().sum().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
        calls.append(len(counted))

    torch.testing.assert_close(gradients[1], gradients[0])
    assert calls == [1, 2]


def test_a_model_that_cannot_do_it_is_refused() -> None:
    with pytest.raises(
        InvalidOption, match=r"student small is a Sequential, which can't do that.*raise `run.accumulate`"
    ):
        checkpoint_activations(small_module(), student="small")
