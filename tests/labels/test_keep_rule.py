import re

import numpy as np
import pytest

from softlab.errors import InvalidOption
from softlab.labels.keep_rule import RowFigures, quantiles, read_rule

ROWS = RowFigures(
    numbers={
        "max_prob": np.array([0.95, 0.5, 0.9, 0.2]),
        "margin": np.array([0.9, 0.1, 0.85, 0.05]),
        "entropy": np.array([0.2, 1.0, 0.3, 1.5]),
    },
    facts={
        "agree": np.array([True, False, False, True]),
        "correct": np.array([True, True, False, False]),
        "labelled": np.array([True, True, False, False]),
    },
    classes_N=np.array([0, 0, 1, 1]),
)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("max_prob >= 0.9", [0, 2]),
        ("max_prob > .9", [0]),
        ("entropy<=1e0", [0, 1, 2]),
        ("margin < 5.e-1", [1, 3]),
        ("agree", [0, 3]),
        ("not agree", [1, 2]),
        ("not agree and correct", [1]),
        ("not (agree and correct)", [1, 2, 3]),
        ("agree and correct or max_prob >= 0.9", [0, 2]),
        ("agree and (correct or max_prob >= 0.9)", [0]),
        ("labelled or not not agree", [0, 1, 3]),
        # The more certain half of each class, though all of one class are less certain than the other's best.
        ("quantile(entropy) <= 0.5", [0, 2]),
        ("quantile(max_prob) > 0.5", [0, 2]),
        ("(((max_prob >= 0.9)))", [0, 2]),
    ],
)
def test_a_rule_keeps_the_rows_that_it_says(rule: str, kept: list[int]) -> None:
    assert np.flatnonzero(read_rule(rule).keeps(ROWS)).tolist() == kept


def test_a_rule_names_what_it_asks_for() -> None:
    rule = read_rule("quantile(entropy) <= 0.8 and (agree or margin > 0.5)")

    assert rule.names == {"entropy", "agree", "margin"}
    assert rule.figures == ("margin", "entropy")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "ends at its beginning, expected agree, correct, labelled, max_prob, margin, entropy, quantile"),
        ("max_prob", "ends after 'max_prob', expected <, <=, > or >="),
        ("max_prob >=", "ends after 'max_prob >=', expected a number"),
        ("max_prob >= high", "has 'high' after 'max_prob >=', expected a number"),
        ("max_prb >= 0.9", "has 'max_prb' at its beginning, expected agree, .*Did you mean max_prob?"),
        ("max_prob >= 0.9 0.8", "has '0.8' after 'max_prob >= 0.9', expected and, or, or the end"),
        ("(agree", "ends after '( agree', expected ')'"),
        ("quantile(agree) < 1", "has 'agree' after 'quantile (', expected max_prob, margin, entropy"),
        ("agree and", "ends after 'agree and', expected agree"),
        ("max_prob == 1", "'=' means nothing in it. Compare with <, <=, > or >="),
        ("__import__('os')", '"\'" means nothing in it'),
    ],
)
def test_a_text_that_is_no_rule_is_refused_where_it_goes_wrong(rule: str, message: str) -> None:
    pattern = r"distil\.keep = .*" + re.escape(message).replace(r"\.\*", ".*") + r".*change `distil\.keep`"
    with pytest.raises(InvalidOption, match=pattern):
        read_rule(rule)


def test_quantiles_count_the_values_of_a_class_that_are_not_larger() -> None:
    generator = np.random.default_rng(0)
    values_N, classes_N = generator.integers(0, 5, 60).astype(float), generator.integers(0, 4, 60)

    expected = [(values_N[classes_N == each] <= value).mean() for value, each in zip(values_N, classes_N, strict=True)]
    np.testing.assert_allclose(quantiles(values_N, classes_N), expected)
