"""The campaign, as long as it was asked for, and a short one that is the same each time."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import pytest

from tests.campaign.calls import failing_calls
from tests.campaign.commands import COMMANDS, Workshop
from tests.campaign.counts import Counts, Try, carry_out
from tests.campaign.damage import BATCH, damage, damaged_predictions, damaged_weights, forgeries
from tests.campaign.kills import kills
from tests.campaign.unfinished import unfinished

Part = Callable[[Workshop, random.Random], Iterator[Try]]

PARTS: dict[str, Part] = {
    "kills": kills,
    "calls": failing_calls,
    "damage": damage,
    "forgeries": forgeries,
    "imports": damaged_predictions,
    "weights": damaged_weights,
    "unfinished": unfinished,
}

SHORT = {name: COMMANDS[name] for name in ("train anew", "push another")}
SHORT_IMPORTS = {name: COMMANDS[name] for name in ("import", "export parquet")}
SHORT_PARTS: dict[str, tuple[Part, int]] = {
    "kills": (partial(kills, commands=SHORT), 3),
    "calls": (partial(failing_calls, commands=SHORT), 3),
    "damage": (damage, BATCH),
    "forgeries": (forgeries, BATCH),
    "kills of imports": (partial(kills, commands=SHORT_IMPORTS), 4),
    "imports": (damaged_predictions, BATCH),
    "weights": (damaged_weights, BATCH),
    "unfinished": (unfinished, 16),
}
"""With how often each is tried."""

pytestmark = pytest.mark.process


@pytest.mark.campaign
@pytest.mark.parametrize("part", PARTS)
def test_whatever_happens_ends_in_a_right_result_or_in_one_line(
    part: str,
    workshop_with_bucket: Workshop,
    counts: Counts,
    pytestconfig: pytest.Config,
) -> None:
    chance = random.Random(pytestconfig.getoption("seed"))
    seconds = 60 * float(pytestconfig.getoption("minutes")) / len(PARTS)

    carry_out(PARTS[part](workshop_with_bucket, chance), counts, seconds=seconds)

    assert not counts.faults_of(part)


@pytest.mark.slow
@pytest.mark.parametrize("part", SHORT_PARTS)
def test_whatever_happens_in_a_few_tries_ends_so_too(part: str, workshop: Workshop) -> None:
    tries, count = SHORT_PARTS[part]
    counts = Counts()

    carry_out(islice(tries(workshop, random.Random(0)), count), counts, seconds=600)

    assert counts.ends.total() == count
    assert not counts.faults, str(counts)
