import pytest
import torch
from torch import nn

from softlab.errors import ModelError
from softlab.labels.lazy_logits import LazyLogits
from softlab.models.build import ModelOptions, build_model

TOLD = {"vocab_size": 50, "pad_id": 0, "max_length": 12}


def model_of(**arguments: object) -> nn.Module:
    torch.manual_seed(0)
    whole = {"width": 16, "num_layers": 2} | arguments
    return build_model(ModelOptions(model="softlab:tokens_transformer", arguments=whole), told=TOLD).eval()


def logits_of(model: nn.Module, ids_BL: torch.Tensor) -> torch.Tensor:
    found = model(input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL))["logits"]
    assert isinstance(found, LazyLogits)
    return found.whole()


def test_a_token_is_told_by_those_before_it_alone() -> None:
    model, ids_BL = model_of(), torch.arange(24).reshape(2, 12)
    changed_BL = ids_BL.clone()
    changed_BL[:, 7] = 49

    one, other = logits_of(model, ids_BL), logits_of(model, changed_BL)

    assert one.shape == (2, 12, 50)
    torch.testing.assert_close(one[:, :7], other[:, :7])
    assert ((one[:, 7:] - other[:, 7:]).abs().amax(dim=2) > 1e-6).all()


def test_what_stands_behind_changes_nothing() -> None:
    model, ids_BL = model_of(), torch.arange(24).reshape(2, 12)

    torch.testing.assert_close(logits_of(model, ids_BL[:, :5]), logits_of(model, ids_BL)[:, :5])


def test_under_autocast_its_output_layer_is_computed_in_half_precision_like_the_others() -> None:
    model, ids_BL = model_of(), torch.arange(24).reshape(2, 12)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids_BL)["logits"]

    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.whole(), logits_of(model, ids_BL), atol=0.05, rtol=0.05)


def test_its_embeddings_are_its_output_layer_and_it_learns() -> None:
    model, ids_BL = model_of().train(), torch.arange(24).reshape(2, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    losses = []
    for _ in range(60):
        logits_BLC = logits_of(model, ids_BL)
        loss = torch.nn.functional.cross_entropy(logits_BLC[:, :-1].flatten(end_dim=1), ids_BL[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())

    assert losses[0] == pytest.approx(torch.tensor(50.0).log().item(), rel=0.05)
    assert losses[-1] < 0.5
    assert sum(parameter.shape == (50, 16) for parameter in model.parameters()) == 1


def test_heads_share_the_width() -> None:
    with pytest.raises(ModelError, match="width = 16 is no multiple of num_heads = 3"):
        model_of(num_heads=3)
