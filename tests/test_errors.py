from softlab.errors import suggest


def test_near_names_are_found_whatever_their_case() -> None:
    assert suggest("fashonmnist", ["CIFAR10", "FashionMNIST"]) == "Did you mean FashionMNIST?"


def test_where_none_is_near_the_known_ones_are_listed() -> None:
    assert suggest("zebra", ["cat", "dog"]) == "Known: cat, dog."


def test_a_long_list_is_cut() -> None:
    assert suggest("?", "abcdefg") == "Known: a, b, c, d, e, ..."


def test_without_known_names_it_says_so() -> None:
    assert suggest("cat", []) == "Known: none."
