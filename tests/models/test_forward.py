# Shape letters: B samples in a batch, C classes.

import re
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, ModelError
from softlab.labels.lazy_logits import LazyLogits
from softlab.modalities.inputs import Inputs
from softlab.models.forward import Output, outputs_of

CPU = torch.device("cpu")
LOGITS_BC, EMBEDDING_BD = torch.arange(6.0).reshape(2, 3), torch.ones(2, 4)
INPUTS = Inputs(positional=(torch.zeros(2, 5),))


class Named(NamedTuple):
    """As torchvision's GoogLeNet returns while it trains."""

    logits: Tensor
    aux: Tensor


class Returning(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value

    def forward(self, inputs: Tensor) -> object:
        return self.value


def outputs(value: object) -> dict[str, Output]:
    return outputs_of(Returning(value), INPUTS, device=CPU, autocast="none")


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (LOGITS_BC, ["output"]),
        ((LOGITS_BC, EMBEDDING_BD), ["0", "1"]),
        ([EMBEDDING_BD], ["0"]),
        (Named(LOGITS_BC, EMBEDDING_BD), ["logits", "aux"]),
        ({"logits": LOGITS_BC, "loss": None, "states": (EMBEDDING_BD,)}, ["logits"]),
        (SimpleNamespace(logits=LOGITS_BC, hidden=EMBEDDING_BD, config="x"), ["logits", "hidden"]),
        ({"logits": LOGITS_BC, "loss": torch.tensor(1.0)}, ["logits", "loss"]),
    ],
)
def test_outputs_have_the_names_that_the_model_gives_them(value: Any, names: list[str]) -> None:
    assert list(outputs(value)) == names


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.zeros(3, 4), "a tensor of shape [3, 4]"),
        (torch.tensor(1.0), "a tensor of shape []"),
        ({"a": torch.zeros(1)}, "the outputs a [1]"),
        ("text", "a str"),
        (None, "a NoneType"),
    ],
)
def test_a_model_whose_output_has_no_row_a_sample_is_refused(value: Any, found: str) -> None:
    message = f"the model returned {found} for 2 samples, expected one row a sample."

    with pytest.raises(ModelError, match=re.escape(message)):
        outputs(value)


def test_named_inputs_go_to_the_arguments_of_their_names() -> None:
    class Adding(nn.Module):
        def forward(self, ids: Tensor, *, mask: Tensor) -> Tensor:
            return ids + 10 * mask

    inputs = Inputs(positional=(torch.ones(2, 3),), named={"mask": torch.ones(2, 3)})

    found = outputs_of(Adding(), inputs, device=CPU, autocast="none")["output"]
    assert isinstance(found, Tensor)
    assert found.tolist() == [[11.0] * 3] * 2


def test_a_model_that_cant_run_on_its_inputs_is_told_with_their_shapes() -> None:
    inputs = Inputs(positional=(torch.zeros(2, 5),), named={"mask": torch.zeros(2)})

    with pytest.raises(
        ModelError,
        match=r"can't run on inputs of shape \[2, 5\], \[2\]: TypeError: .*`input.size` and `input.channels`",
    ):
        outputs_of(nn.Linear(3, 4), inputs, device=CPU, autocast="none")


def test_an_error_of_softlabs_own_comes_as_it_is() -> None:
    class Refusing(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise InvalidOption("not this")

    with pytest.raises(InvalidOption, match="not this"):
        outputs_of(Refusing(), INPUTS, device=CPU, autocast="none")


def test_batch_normalisation_of_one_sample_tells_the_batch_size() -> None:
    with pytest.raises(ModelError, match=r"raise `run\.batch_size`\."):
        outputs_of(nn.BatchNorm1d(3), Inputs(positional=(torch.zeros(1, 3),)), device=CPU, autocast="none")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_gets_its_inputs_in_the_dtype_of_its_weights(dtype: torch.dtype) -> None:
    found = outputs_of(nn.Linear(5, 3, dtype=dtype), INPUTS, device=CPU, autocast="none")

    assert found["output"].dtype == dtype


def test_logits_that_are_not_computed_yet_count_as_a_tensor() -> None:
    logits = LazyLogits(hidden=torch.ones(len(INPUTS), 3, 4), weight_CD=torch.ones(9, 4))

    assert outputs({"logits": logits, "states": torch.zeros(1, 2)})["logits"] is logits
    assert list(outputs(logits)) == ["output"]
