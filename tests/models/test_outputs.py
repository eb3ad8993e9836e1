import re

import pytest
import torch

from softlab.errors import InvalidOption, ModelError
from softlab.models.outputs import WantedOutput, parse_output, pick_output
from softlab.models.taps import Tap

LOGITS, MASKS, TAPPED = torch.zeros(2, 5), torch.zeros(2, 3, 8, 8), torch.zeros(2, 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logits", WantedOutput(name="logits")),
        ("masks=aux_logits", WantedOutput(name="masks", place="aux_logits")),
        ("second=1", WantedOutput(name="second", place="1")),
        ("embedding:values", WantedOutput(name="embedding", kind="values", is_sure=True)),
        ("embedding:values=1", WantedOutput(name="embedding", kind="values", place="1", is_sure=True)),
        ("logits:classes", WantedOutput(name="logits", kind="classes", is_sure=True)),
        ("aux=layer:head.1", WantedOutput(name="aux", place="layer:head.1")),
        ("cls:values=layer:norm:cls", WantedOutput(name="cls", kind="values", place="layer:norm:cls", is_sure=True)),
    ],
)
def test_a_name_tells_the_kind_behind_a_colon_and_the_place_behind_an_equals_sign(
    text: str, expected: WantedOutput
) -> None:
    assert parse_output(text) == expected


@pytest.mark.parametrize(
    ("text", "tap", "taken_from"),
    [
        ("logits", None, "output"),
        ("logits=out", None, "out"),
        ("aux=layer:head.1", Tap(layer="head.1"), "layer:head.1:none"),
        ("aux:values=layer:head:flatten", Tap(layer="head", pooling="flatten"), "layer:head:flatten"),
    ],
)
def test_a_manifest_tells_where_an_output_was_taken_from(text: str, tap: Tap | None, taken_from: str) -> None:
    wanted = parse_output(text)

    assert (wanted.tap, wanted.taken_from) == (tap, taken_from)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "output '': a name is 1 to 64 of a-z A-Z 0-9 _ -. Write NAME, or NAME=WHERE."),
        ("../labels", "output '../labels': a name is 1 to 64 of"),
        ("logits\n", "a name is 1 to 64 of"),
        ("x" * 65, "a name is 1 to 64 of"),
        ("=out", "a name is 1 to 64 of"),
        ("logits:value", "unknown kind 'value'. Did you mean values? Write NAME:values, or NAME alone for logits over"),
        ("logits:", "unknown kind ''. "),
        ("logits=layer:head:flatten", "classes are not flattened. Say another pooling, or logits:values."),
        ("logits=layer:head:max", "unknown pooling `max`. Use one of none, mean, cls, flatten."),
        ("logits=layer:", "no layer is named."),
    ],
)
def test_what_names_no_output_is_refused_with_what_to_write(text: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        parse_output(text)


@pytest.mark.parametrize("text", ["logits", "anything", "logits=output"])
def test_a_model_that_returns_one_tensor_has_it_under_any_name(text: str) -> None:
    assert pick_output(parse_output(text), {"output": LOGITS}, {}) is LOGITS


def test_of_several_outputs_each_is_found_by_its_own_name_or_the_one_that_is_given() -> None:
    returned = {"logits": LOGITS, "masks": MASKS}

    assert pick_output(parse_output("logits"), returned, {}) is LOGITS
    assert pick_output(parse_output("dense=masks"), returned, {}) is MASKS


def test_an_output_of_a_layer_is_found_whatever_the_model_returns() -> None:
    wanted = parse_output("logits=layer:head")

    assert pick_output(wanted, {"logits": LOGITS}, {"logits": TAPPED}) is TAPPED


@pytest.mark.parametrize("text", ["maks", "logits=maks"])
def test_an_output_that_is_not_there_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(ModelError) as refused:
        pick_output(parse_output(text), {"logits": LOGITS, "masks": MASKS}, {})

    name = parse_output(text).name
    assert str(refused.value) == (
        f"output {name}: the model returns no 'maks' (it returns: logits [2, 5], masks [2, 3, 8, 8]). Did you mean "
        f"masks? Name it with `dump.output = {name}=FIELD`, or take a layer's with `dump.output = {name}=layer:NAME`."
    )


def test_a_field_of_a_model_that_returns_one_tensor_is_refused() -> None:
    with pytest.raises(ModelError, match=re.escape("returns no 'aux' (it returns: output [2, 5])")):
        pick_output(parse_output("logits=aux"), {"output": LOGITS}, {})
