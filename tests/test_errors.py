import pytest

from softlab.errors import InvalidOption, check_option, extra_needed, suggest


def test_near_names_are_found_whatever_their_case() -> None:
    assert suggest("fashonmnist", ["CIFAR10", "FashionMNIST"]) == "Did you mean FashionMNIST?"


def test_where_none_is_near_the_known_ones_are_listed() -> None:
    assert suggest("zebra", ["cat", "dog"]) == "Known: cat, dog."


def test_a_long_list_is_cut() -> None:
    assert suggest("?", "abcdefg") == "Known: a, b, c, d, e, ..."


def test_without_known_names_it_says_so() -> None:
    assert suggest("cat", []) == "Known: none."


def test_an_option_with_a_wrong_value_is_named_with_what_is_expected() -> None:
    with pytest.raises(InvalidOption, match=r"^run\.epochs = 0: expected 1 or more\. Change `run\.epochs`\.$"):
        check_option(False, "run.epochs", 0, "1 or more")


def test_a_missing_package_is_told_with_the_extra_that_has_it() -> None:
    message = r"^sounds need soundfile\. Install it: pip install 'softlab\[audio\]'$"
    with pytest.raises(InvalidOption, match=message), extra_needed("audio", "sounds need soundfile"):
        raise ImportError
