from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.sharing.catalogue.web.browsing import NARROW, Visit, visiting
from tests.sharing.catalogue.web.catalogues import PETS, TAGS, VERSIONS, write_card, write_catalogue, write_figures
from tests.sharing.records import make_version


@pytest.mark.parametrize("route", ["", "#pets@3"])
def test_the_page_asks_nothing_of_other_places_and_complains_of_nothing(visit: Visit, route: str) -> None:
    visit.show(route)

    assert visit.strangers == []
    assert visit.complaints == []


@pytest.mark.parametrize("route", ["", "#pets@3"])
def test_no_screen_is_too_narrow(tmp_path: Path, site: Visit, route: str) -> None:
    long = "x" * 300
    versions = [make_version("n" * 100, 9, teacher=long, source=long, licence=long, terms=long, features=(long,))]
    write_catalogue(tmp_path, [*versions, *VERSIONS], TAGS)
    write_card(tmp_path, PETS, f"# {long}\n\n{long}\n\n| {long} | {long} |\n| --- | --- |\n\n```\n{long}\n```\n")
    write_figures(tmp_path, PETS)

    for width in (NARROW, 700, 1000, 1400):
        site.page.set_viewport_size({"width": width, "height": 900})
        site.show(route)

        assert site.excess_width <= 0, width


def test_on_a_narrow_screen_rows_are_sorted_by_a_field(browser: Browser, catalogue_url: str) -> None:
    with visiting(browser, catalogue_url, width=NARROW) as visit:
        visit.show()

        visit.page.get_by_label("Sort by").select_option("Samples")

        assert visit.names[0] == "imagenet-eva02@7"
        assert visit.page.get_by_role("cell", name="1,281,167").is_visible()
