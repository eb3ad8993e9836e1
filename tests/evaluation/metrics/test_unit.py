import pytest

from softlab.evaluation.metrics.unit import NATS, SHARE, Unit


@pytest.mark.parametrize(
    ("unit", "value", "number", "text"),
    [
        (SHARE, 0.79144, "79.14", "79.14%"),
        (SHARE, 1.0, "100.00", "100.00%"),
        (NATS, 0.12346, "0.1235", "0.1235 nats"),
        (NATS, -1e-9, "0.0000", "0.0000 nats"),  # rounding alone, not a negative divergence
    ],
)
def test_a_figure_is_written_with_its_digits_and_its_symbol(unit: Unit, value: float, number: str, text: str) -> None:
    assert (unit.number(value), unit.text(value)) == (number, text)


def test_a_gain_has_its_sign() -> None:
    assert (SHARE.number(0.034, sign="+"), SHARE.number(-0.034, sign="+")) == ("+3.40", "-3.40")
