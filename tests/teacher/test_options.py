import re

import pytest

from softlab.errors import InvalidOption
from softlab.models.device import DeviceOptions
from softlab.models.taps import Tap
from softlab.teacher.options import DumpOptions


def test_features_are_outputs_of_layers_stored_as_values_behind_the_others() -> None:
    options = DumpOptions(feature={"pool": "pool", "last-block": "layer4.1:mean"})

    logits, pool, block = options.wanted_outputs
    assert (logits.name, logits.kind, logits.tap) == ("logits", "classes", None)
    assert (pool.name, pool.kind, pool.tap) == ("pool", "values", Tap(layer="pool"))
    assert (block.name, block.kind, block.tap) == ("last-block", "values", Tap(layer="layer4.1", pooling="mean"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k": 0}, "dump.k = 0: expected 1 or more. Choose `dump.k` from 1 to the number of classes."),
        ({"batch_size": 0}, "dump.batch_size = 0: expected 1 or more. Change `dump.batch_size`."),
        ({"devices": 0}, "dump.devices = 0: expected 1 or more, or all. Change `dump.devices`."),
        ({"devices": "-1"}, "dump.devices = -1: expected 1 or more, or all."),
        ({"devices": "two"}, "devices = 'two': expected a number, or all."),
        (
            {"devices": 2, "device": DeviceOptions(name="cuda:1")},
            "dump.devices = 2 with device.name = cuda:1: each process takes a GPU of its own. Leave `device.name` out, "
            "or `dump.devices`.",
        ),
        (
            {"devices": "all", "device": DeviceOptions(name="cuda:0")},
            "dump.devices = all with device.name = cuda:0: each process takes a GPU of its own.",
        ),
        ({"temperature": ()}, "expected one or more positive numbers, as in `dump.temperature = [1, 4]`."),
        ({"temperature": (1.0, 0.0)}, "temperatures [1.0, 0.0]: expected one or more positive numbers"),
        ({"temperature": (float("inf"),)}, "temperatures [inf]: expected one or more positive numbers"),
        ({"temperature": (float("nan"),)}, "temperatures [nan]: expected one or more positive numbers"),
        ({"feature": {"": "pool"}}, "feature '': a name is 1 to 64 of a-z A-Z 0-9 _ -. Choose another name."),
        ({"feature": {"../pool": "pool"}}, "feature '../pool': a name is 1 to 64 of"),
        ({"feature": {"pool\n": "pool"}}, "feature 'pool\\n': a name is 1 to 64 of"),
        ({"feature": {"pool": "pool:max"}}, "unknown pooling `max`. Use one of none, mean, cls, flatten."),
        ({"feature": {"pool": ""}}, "no layer is named. Write LAYER or LAYER:POOLING"),
    ],
)
def test_a_wrong_value_is_refused_with_what_to_give(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        [each.tap for each in DumpOptions(**values).wanted_outputs]  # type: ignore[arg-type]
