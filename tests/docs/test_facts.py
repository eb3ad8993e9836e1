"""Tables that the code could contradict."""

import re
from dataclasses import fields
from typing import get_args

import pytest

from softlab.errors import InvalidOption, StoreMismatch
from softlab.labels.gradient_angle import MANY_CLASSES
from softlab.labels.losses import (
    LOSS_BY_NAME,
    VALUES_LOSSES,
    LossName,
    Tail,
    ValuesLoss,
    check_loss_head,
    make_loss,
)
from softlab.labels.losses.checks import TAKE_VALID
from softlab.labels.losses.features import FeatureLossName
from softlab.labels.losses.tempered import default_temperature
from softlab.labels.losses.values import PrefixedLoss
from softlab.labels.soft_labels import Head
from softlab.modalities.images.views.described import ALLOWED
from tests.docs.pages import PAGES, Page

LOSSES = PAGES["softlab/labels/losses/README.md"]


def table(page: Page, *, heads: str) -> list[list[str]]:
    """The cells of the table whose head begins so."""
    lines = page.text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heads}"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def test_the_losses_are_those_of_the_page() -> None:
    assert [row[0].strip("`") for row in table(LOSSES, heads="loss | formula | unit")] == list(get_args(LossName))


@pytest.mark.parametrize("row", table(LOSSES, heads="loss | formula | unit"), ids=lambda row: row[0].strip("`"))
def test_a_loss_takes_the_tails_and_heads_of_the_page(row: list[str]) -> None:
    loss, head, tails = row[0].strip("`"), row[4], row[5]
    takes_all = tails == "-"  # as it looks at none

    assert {tail for tail in get_args(Tail) if takes_tail(loss, tail)} == (
        set(get_args(Tail)) if takes_all else set(tails.split(", "))
    )
    assert {each for each in get_args(Head) if takes_head(loss, each)} == (
        set(get_args(Head)) if head == "any" else {head}
    )


def takes_tail(loss: str, tail: str) -> bool:
    try:
        make_loss(loss, **({"tail": tail} if "tail" in names_of(loss) else {}))
    except InvalidOption:
        return False
    return True


def takes_head(loss: str, head: Head) -> bool:
    try:
        check_loss_head(make_loss(loss), head)
    except StoreMismatch:
        return False
    return True


def test_the_options_of_losses_have_the_defaults_of_the_page() -> None:
    rows = table(LOSSES, heads="loss | option")

    for losses, option, default, _ in rows:
        for loss in losses_of(losses):
            found = default_temperature_cell() if option == "`temperature`" else default_of(loss, option.strip("`"))
            assert found in (default, f"{default}.0"), option
    told = {(loss, option.strip("`")) for losses, option, *_ in rows for loss in losses_of(losses)}
    assert told == {(loss, name) for loss in get_args(LossName) for name in names_of(loss) if name != "temperature_end"}


def default_of(loss: str, option: str) -> str:
    return str(getattr(make_loss(loss), option))


def default_temperature_cell() -> str:
    """Of few classes, and of many."""
    few, many = (default_temperature(count, head="softmax", lowest=1.0) for count in (MANY_CLASSES, MANY_CLASSES + 1))
    return f"{few:g}; of more than {MANY_CLASSES} classes {many:g}"


def losses_of(cell: str) -> list[str]:
    """Of a cell that names some losses, or all but some."""
    named = re.findall(r"`(\w+)`", cell)
    return [loss for loss in get_args(LossName) if loss not in named] if cell.startswith("all but") else named


def names_of(loss: str) -> list[str]:
    return [field.name for field in fields(LOSS_BY_NAME[loss])]


def test_the_losses_for_rows_with_fewer_classes_are_those_of_the_page() -> None:
    (row,) = (row for row in table(LOSSES, heads="you want") if "fewer classes" in row[0])

    assert tuple(re.findall(r"`(\w+)`", row[1])) == TAKE_VALID


def test_the_losses_on_values_are_those_of_the_page() -> None:
    rows = table(LOSSES, heads="loss | formula | widths")

    assert tuple(row[0].strip("`") for row in rows) == VALUES_LOSSES
    for name, _, widths, prefixes, _ in rows:
        kind = next(each for each in get_args(ValuesLoss) if each.name == name.strip("`"))
        assert (prefixes == "yes") == issubclass(kind, PrefixedLoss)
        assert ("projected" in widths) == ("projector" in {field.name for field in fields(kind)})


def test_the_losses_of_features_are_those_of_the_page() -> None:
    rows = table(PAGES["softlab/student/README.md"], heads="loss | what is compared | from")

    assert {re.findall(r"`(\w+)`", row[0])[0] for row in rows} == set(get_args(FeatureLossName))


def test_so_many_transforms_are_allowed() -> None:
    assert f"an allow-list of {len(ALLOWED)}" in PAGES["softlab/loading/README.md"].text.replace("\n", " ")
