import json
import re
from pathlib import Path

import pytest

from tests.sharing.catalogue.web.browsing import Visit
from tests.sharing.catalogue.web.catalogues import (
    VERSIONS,
    write_about,
    write_card,
    write_catalogue,
    write_figures,
    write_signature,
)
from tests.sharing.records import make_version

ATTACK = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
CARD = f"""---
license: "{ATTACK}"
---
# {ATTACK}

{ATTACK} [click](javascript:window.hit=1) [data](data:text/html,<script>window.hit=1</script>) **{ATTACK}**
[out](https://elsewhere.example/"onmouseover="window.hit=1) <a href="javascript:window.hit=1">a</a> `{ATTACK}`

| {ATTACK} | b |
| --- | --- |
| <iframe src="https://elsewhere.example"></iframe> | ![picture](https://elsewhere.example/p.png) |

- {ATTACK}

<!-- {ATTACK}

<style>body {{ display: none }}</style><base href="https://elsewhere.example/"><meta http-equiv="refresh" content="0">
"""


def test_nothing_that_others_wrote_is_run_or_fetched(tmp_path: Path, site: Visit) -> None:
    hostile = make_version(
        "pets", 1, source=ATTACK, teacher=f'"{ATTACK}', coding=ATTACK, features=(ATTACK,), licence=ATTACK, terms=ATTACK
    )
    write_catalogue(tmp_path, [hostile])
    write_card(tmp_path, hostile, CARD)
    write_figures(tmp_path, hostile)
    write_about(
        tmp_path, hostile, modality=ATTACK, class_names=(ATTACK,), input={"size": [ATTACK, 1], "mean": [ATTACK]}
    )
    write_signature(tmp_path, hostile, hint=ATTACK)

    site.show()
    listed = site.texts("td.source")
    site.show("#pets@1")

    assert listed == [ATTACK]
    assert ATTACK in site.texts("dd")
    assert site.page.locator(".card").inner_text().count("onerror") == 7
    assert site.page.locator("main").locator("img, script, iframe, style, base, meta, object, embed").count() == 0
    links = site.page.locator("main a").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert {re.split(r"[:/]", link)[0] for link in links if link[0] != "#"} == {"pets", "https"}
    handlers = "[...document.querySelectorAll('*')].some((each) => each.getAttributeNames().some((n) => /^on/.test(n)))"
    assert site.page.evaluate(handlers) is False
    assert site.page.evaluate("window.hit") is None
    assert site.complaints == []
    assert site.strangers == []


def test_records_that_are_none_are_left_out_and_counted(tmp_path: Path, site: Visit) -> None:
    changes: dict[str, list[object]] = {
        "name": ["../../etc", "a..b", "<b>"],
        "version": ["3/../4", 0],
        "digest": ["f" * 63],
        "published": ["yesterday"],
        "licence": [{"a": 1}],
        "summary": [None],
    }
    write_catalogue(tmp_path, VERSIONS)
    found = json.loads((tmp_path / "catalog.json").read_text())
    first, *others = found["versions"]
    found["versions"] = others + [first | {key: value} for key, values in changes.items() for value in values]
    (tmp_path / "catalog.json").write_text(json.dumps(found))

    site.show()

    assert len(site.names) == 4
    assert site.texts(".found") == ["4 versions. 9 record(s) of the catalogue can't be read and are left out."]


def test_characters_that_turn_text_around_are_shown_as_such(tmp_path: Path, site: Visit) -> None:
    write_catalogue(tmp_path, [make_version(licence="MIT\u202etxet")])

    site.show()

    assert site.texts("td.licence") == ["MIT\ufffdtxet"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "catalog.json: the server answers 404."),
        (b"<html>", "JSON"),
        (b'{"format": "else"}', "catalog.json is no catalogue of softlab's."),
        (b'{"format": "softlab-catalog", "format_version": 2, "versions": []}', "newer format than this page"),
    ],
)
def test_without_a_catalogue_the_page_says_why(tmp_path: Path, site: Visit, data: bytes | None, said: str) -> None:
    write_catalogue(tmp_path, [])
    (tmp_path / "catalog.json").unlink()
    if data is not None:
        (tmp_path / "catalog.json").write_bytes(data)

    site.show()

    assert site.texts("h1") == ["The catalogue can't be read"]
    assert said in site.page.locator("main").inner_text()


def test_an_empty_catalogue_says_how_it_is_filled(tmp_path: Path, site: Visit) -> None:
    write_catalogue(tmp_path, [])

    site.show()

    assert "softlab push publishes a store" in site.page.locator("main").inner_text()
