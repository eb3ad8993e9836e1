"""The campaign, as long as it was asked for."""

import random

import pytest

from tests.campaign.calls import failing_calls
from tests.campaign.commands import Workshop
from tests.campaign.counts import Counts, carry_out
from tests.campaign.damage import damage, forgeries
from tests.campaign.kills import kills

PARTS = {"kills": kills, "calls": failing_calls, "damage": damage, "forgeries": forgeries}

pytestmark = [pytest.mark.campaign, pytest.mark.process]


@pytest.mark.parametrize("part", PARTS)
def test_whatever_happens_ends_in_a_right_result_or_in_one_line(
    part: str, workshop: Workshop, chance: random.Random, counts: Counts, pytestconfig: pytest.Config
) -> None:
    seconds = 60 * float(pytestconfig.getoption("minutes")) / len(PARTS)

    carry_out(PARTS[part](workshop, chance), counts, seconds=seconds)

    assert not counts.faults_of(part)
