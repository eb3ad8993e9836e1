from pathlib import Path

import pytest

from tests.sharing.catalogue.web.browsing import Visit
from tests.sharing.catalogue.web.catalogues import PETS, write_catalogue
from tests.sharing.records import make_version


def test_the_newest_version_is_the_first_row(visit: Visit) -> None:
    visit.show()

    assert visit.names == ["imagenet-eva02@7", "scenes@5", "pets@3", "pets@2", "pets@1"]
    assert visit.texts("tbody tr:first-child td") == [
        "imagenet-eva02@7 latest",
        "folder:imagenet-1k",
        "timm:eva02_large_patch14_448",
        "\u2013",
        "1,281,167",
        "2",
        "64 / 1,000",
        "90.00 %",
        "1.2 GB",
        "MIT",
        "2026-10-07",
    ]


def test_of_sampled_rows_the_resolution_is_shown_and_not_the_most_entries(tmp_path: Path, site: Visit) -> None:
    write_catalogue(tmp_path, [make_version("tokens", 1, num_classes=49_152, k=17, resolution=16)])

    site.show()
    listed = site.texts("td.kept")
    site.show("#tokens@1")

    assert listed == ["1/16 / 49,152"]
    assert "49,152 classes, sampled at 1/16" in site.texts("dd")


def test_words_filter_the_rows(visit: Visit) -> None:
    visit.show()

    visit.page.fill("#search", "EVA02 mit")

    assert visit.names == ["imagenet-eva02@7"]
    assert visit.texts(".found") == ["1 of 5 versions."]


def test_a_digest_finds_its_store(visit: Visit) -> None:
    visit.show()

    visit.page.fill("#search", PETS.digest)

    assert visit.names == ["pets@3"]


def test_a_filter_that_nothing_passes_says_so(visit: Visit) -> None:
    visit.show()

    visit.page.fill("#search", "no such thing")

    assert visit.names == []
    assert visit.texts(".more") == ["Nothing matches these filters."]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("source", "folder:places", ["scenes@5"]),
        ("teacher", "timm:eva02_large_patch14_448", ["imagenet-eva02@7"]),
    ],
)
def test_rows_are_those_of_the_chosen_data_set_or_teacher(
    visit: Visit, field: str, value: str, expected: list[str]
) -> None:
    visit.show()

    visit.page.select_option(f"#only-{field}", value)

    assert visit.names == expected


def test_a_column_sorts_the_largest_first_and_again_the_smallest(visit: Visit) -> None:
    visit.show()
    head = visit.page.get_by_role("columnheader", name="Accuracy")

    head.get_by_role("button").click()
    first, said = visit.names[0], head.get_attribute("aria-sort")
    head.get_by_role("button").click()

    assert (first, said) == ("pets@3", "descending")
    assert visit.names == ["imagenet-eva02@7", "scenes@5", "pets@1", "pets@2", "pets@3"]
    assert head.get_attribute("aria-sort") == "ascending"
    assert visit.page.get_by_role("columnheader", name="Published").get_attribute("aria-sort") == "none"


def test_all_is_done_with_the_keyboard(visit: Visit) -> None:
    visit.show()

    visit.page.keyboard.press("/")
    visit.page.keyboard.type("pets")
    visit.page.get_by_role("button", name="Store").focus()
    visit.page.keyboard.press("Enter")
    visit.page.locator("td.name a").last.focus()
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_selector("article.store")

    assert visit.page.locator(":focus").inner_text().startswith("pets@1")


def test_filters_stay_when_one_comes_back_from_a_store(visit: Visit) -> None:
    visit.show()
    visit.page.fill("#search", "places")

    visit.page.click("td.name a")
    visit.page.click(".back a")
    visit.page.wait_for_selector("section.list")

    assert visit.names == ["scenes@5"]
    assert visit.page.input_value("#search") == "places"


def test_of_very_many_versions_the_first_are_shown_until_all_are_asked_for(tmp_path: Path, site: Visit) -> None:
    write_catalogue(tmp_path, [make_version(version=number, published=PETS.published) for number in range(1, 621)])
    site.show()

    shown = site.page.locator("tbody tr").count()
    site.page.click(".more button")

    assert shown == 500
    assert site.page.locator("tbody tr").count() == 620
