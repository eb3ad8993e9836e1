"""How figures are written for a person."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What a value is multiplied by, how many digits it has, and what comes after it."""

    symbol: str
    scale: float
    digits: int

    def number(self, value: float, *, sign: str = "") -> str:
        """Without the symbol, for a column that has it in its head; `sign="+"` shows a plus too."""
        return f"{self.scale * value:{sign}z.{self.digits}f}"  # z: rounding may leave a little below 0

    def text(self, value: float) -> str:
        """`79.14%`, `0.1234 nats`."""
        return self.number(value) + ("" if self.symbol in ("%", "") else " ") + self.symbol


SHARE = Unit(symbol="%", scale=100, digits=2)
NATS = Unit(symbol="nats", scale=1, digits=4)
COSINE = Unit(symbol="", scale=1, digits=4)
PERPLEXITY = Unit(symbol="", scale=1, digits=2)
"""Among how many equally likely classes a model would be as unsure."""

SQUARED = Unit(symbol="", scale=1, digits=6)
"""Of numbers that have no unit: those of vectors of length 1 with 1,000 numbers have a mean square of 0.001."""
