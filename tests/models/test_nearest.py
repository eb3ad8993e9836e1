from softlab.models.nearest import nearest_names


def test_the_most_similar_name_comes_first() -> None:
    assert nearest_names("resnet81", ["vgg11", "resnet18", "resnet50"], count=2) == "`resnet18`, `resnet50`"


def test_a_name_unlike_all_others_still_gets_some() -> None:
    assert nearest_names("???", ["vgg11", "resnet18"]).count("`") == 4
