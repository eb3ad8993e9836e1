from pathlib import Path
from typing import Any

import pytest

from tests.sharing.catalogue.web.browsing import Visit
from tests.sharing.catalogue.web.catalogues import (
    PETS,
    VERSIONS,
    write_about,
    write_card,
    write_catalogue,
    write_figures,
    write_signature,
)
from tests.sharing.records import make_version


def test_an_address_with_a_version_shows_it(visit: Visit) -> None:
    visit.show("#pets@3")

    assert visit.texts("h1") == ["pets@3 latest"]
    facts = dict(zip(visit.texts("dt"), visit.texts("dd"), strict=True))
    assert facts["Captured mass"] == "90.00 % T=1\n70.00 % T=4"
    assert facts["Teacher's terms"] == "For research only."
    assert facts["Digest"].startswith(PETS.digest)
    assert visit.texts(".versions a") == ["@3", "@2", "@1"]
    assert visit.texts(".notice") == []


@pytest.mark.parametrize(
    ("route", "shown"), [("#pets@paper", "pets@1"), ("#pets@latest", "pets@3"), ("#pets", "pets@3")]
)
def test_a_tag_or_no_version_shows_the_one_that_is_meant(visit: Visit, route: str, shown: str) -> None:
    visit.show(route)

    assert visit.texts("h1")[0].startswith(shown)


def test_an_older_version_points_to_the_newest(visit: Visit) -> None:
    visit.show("#pets@1")

    visit.page.click(".notice a")
    visit.page.wait_for_selector("text=All stores")
    visit.page.wait_for_function("document.querySelector('h1').textContent.includes('@3')")

    assert visit.texts("h1") == ["pets@3 latest"]


@pytest.mark.parametrize("route", ["#pets@9", "#nothing@1", "#constructor", "#%", "#<img src=x>@1"])
def test_what_is_not_published_is_said(visit: Visit, route: str) -> None:
    visit.show(route)

    assert visit.texts("h1") == ["Not in this catalogue"]
    assert visit.complaints == []


def test_commands_name_the_place_of_the_page(visit: Visit, catalogue_url: str) -> None:
    visit.show("#pets@3")

    whole = f"{catalogue_url}pets@3"
    student = "--student torchvision:resnet18 --set student.resnet18.arguments.num_classes=5"
    options = f"--source YOUR_DATA {student} --size 224 --size 224 --channels 3 --out RUN"
    assert visit.texts(".command code") == [
        f"softlab pull {whole} pets",
        f"softlab train-student --store pets {options}",
        f"softlab train-student --store {whole} {options}",
        f'store = softlab.open_store("{whole}")',
        f"softlab verify {whole} --signer THEIR_KEY.pem",
    ]


def test_commands_follow_the_address_that_is_typed(visit: Visit) -> None:
    visit.show("#pets@3")

    visit.page.fill("#address", "s3://bucket/our labels;$(id)/")

    assert visit.texts(".command code")[0] == "softlab pull 's3://bucket/our labels;$(id)/pets@3' pets"


def test_labels_of_a_multi_label_teacher_are_trained_with_their_own_loss(visit: Visit) -> None:
    visit.show("#scenes@5")

    assert "num_classes=5 --loss bce --alpha 1 --out RUN" in visit.texts(".command code")[1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"accuracy": None}, "num_classes=5 --alpha 1 --out RUN"),
        ({"num_classes": 1000, "temperatures": (1.0, 4.0)}, "--student torchvision:resnet18 --out RUN"),
        ({"num_classes": 1000, "temperatures": (2.0, 4.0)}, "torchvision:resnet18 --temperature 2 --out RUN"),
        ({"temperatures": (1.0, 2.0)}, "num_classes=5 --temperature 2 --out RUN"),
    ],
)
def test_commands_are_those_that_work_for_the_store(
    tmp_path: Path, site: Visit, changes: dict[str, Any], told: str
) -> None:
    write_catalogue(tmp_path, [make_version("pets", 1, **changes)])

    site.show("#pets@1")

    assert told in site.texts(".command code")[1]


def test_students_of_a_language_model_read_the_tokens_of_its_store(tmp_path: Path, site: Visit) -> None:
    version = make_version("chats", 1, num_classes=49_152, k=17, resolution=16, temperatures=(1.0,), captured_mass=(1,))
    write_catalogue(tmp_path, [version])
    write_about(tmp_path, version, modality="tokens", input={})

    site.show("#chats@1")

    options = "--set input.modality=tokens --student softlab:tokens_transformer --out RUN"
    assert site.texts(".command code")[1] == f"softlab train-student --store chats --source store:chats {options}"


VALUES_ALONE: dict[str, Any] = {
    **dict.fromkeys(("num_classes", "head", "k", "accuracy")),
    "temperatures": (),
    "captured_mass": (),
    "coding": "",
    "features": ("embedding",),
}


def test_a_store_of_values_alone_is_shown_with_what_works_for_it(tmp_path: Path, site: Visit) -> None:
    write_catalogue(tmp_path, [make_version("pets", 1), make_version("vectors", 1, **VALUES_ALONE)])

    site.show()
    listed = site.texts("td.name")
    site.show("#vectors@1")

    assert [each.split("@")[0] for each in listed] == ["pets", "vectors"]
    assert site.texts(".lead")[0].endswith("values alone: embedding")
    told = "--student torchvision:resnet18 --loss cosine --set loss.output=embedding --alpha 1 --out RUN"
    assert told in site.texts(".command code")[1]
    facts = dict(zip(site.texts("dt"), site.texts("dd"), strict=True))
    assert (facts["Soft labels"], facts["Format"], facts["Features"]) == ("no soft labels", "zarr", "embedding")


@pytest.mark.parametrize("changes", [{"k": None}, {"head": None}, {"num_classes": None}, {"temperatures": ()}])
def test_a_record_that_has_half_of_the_labels_is_left_out(tmp_path: Path, site: Visit, changes: dict[str, Any]) -> None:
    write_catalogue(tmp_path, [make_version("pets", 1), make_version("half", 1, **changes)])

    site.show()

    assert [each.split("@")[0] for each in site.texts("td.name")] == ["pets"]


def test_who_signed_it_is_told_and_how_to_check_it(visit: Visit) -> None:
    visit.show("#pets@3")

    facts = dict(zip(visit.texts("dt"), visit.texts("dd"), strict=True))
    assert facts["Signed"] == f"by key {'c' * 12}, says the file; this page checks nothing, softlab verify does"
    assert visit.page.get_by_text("Check who signed it", exact=True).is_visible()
    assert facts["Teacher's input"] == "images, size 224 x 224, mean 0.5, std 0.5"
    assert facts["Class names"] == "a, b, c, d, e"
    assert facts["Labels"].endswith("B")
    visit.show("#pets@2")
    facts = dict(zip(visit.texts("dt"), visit.texts("dd"), strict=True))
    assert facts["Signed"] == "no"
    assert facts["Labels"] == "not told: published by an earlier softlab"
    assert not visit.page.get_by_text("Check who signed it", exact=True).is_visible()


@pytest.mark.parametrize(
    ("ours", "theirs", "told"),
    [
        (None, None, "There is a newer version: pets@3."),
        ("a" * 64, "a" * 64, "There is a newer version: pets@3."),
        ("a" * 64, None, "pets@3. It is not signed, as this one is: ask its publisher before you take it."),
        (None, "b" * 64, f"pets@3. It is signed (key {'b' * 12}), and this one is not."),
        ("a" * 64, "b" * 64, f"pets@3. It is signed by another signer (key {'b' * 12}) than this one (key {'a' * 12})"),
    ],
)
def test_a_newer_version_is_told_with_who_signed_it(
    tmp_path: Path, site: Visit, ours: str | None, theirs: str | None, told: str
) -> None:
    write_catalogue(tmp_path, VERSIONS)
    for version, hint in ((VERSIONS[1], ours), (PETS, theirs)):
        if hint is not None:
            write_signature(tmp_path, version, hint=hint)

    site.show("#pets@2")

    assert told in site.texts(".notice")[0]


def test_a_digest_is_copied_whole(visit: Visit) -> None:
    visit.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.show("#pets@3")

    visit.page.get_by_role("button", name="Copy digest", exact=True).click()
    visit.page.get_by_text("Copied", exact=True).wait_for()

    assert visit.page.evaluate("navigator.clipboard.readText()") == PETS.digest


def test_the_card_is_shown_as_markdown_without_what_is_for_hubs(visit: Visit) -> None:
    visit.show("#pets@3")

    text = visit.page.locator(".card").inner_text()

    assert "Of these labels: CC-BY-4.0." in text
    assert visit.texts(".card h4")[:2] == ["How good", "Licence"]
    assert visit.page.locator(".card table tr").count() == 9
    assert "kept:" not in text
    assert "pretty_name" not in text


def test_the_figures_are_drawn_and_told(visit: Visit) -> None:
    visit.show("#pets@3")

    assert visit.texts("figcaption") == ["Teacher's confidence, T=1", "Captured mass, T=1", "Captured mass, T=4"]
    assert visit.page.locator("svg rect").count() == 60
    told = visit.page.locator("svg").first.get_attribute("aria-label")
    assert told == "Teacher's confidence, T=1: 10 % of rows above 0.95, 76 % above 0.5"


def test_what_does_not_lie_beside_a_version_is_said(visit: Visit) -> None:
    visit.show("#pets@2")

    assert visit.texts(".said .note") == [
        "No figures can be shown: pets/versions/2.figures.json: the server answers 404."
    ]
    assert visit.texts(".card .note") == ["No card can be shown: pets/versions/2.md: the server answers 404."]


def test_figures_of_another_store_are_not_drawn(tmp_path: Path, site: Visit) -> None:
    write_catalogue(tmp_path, VERSIONS)
    write_figures(tmp_path, PETS, digest="a" * 64)

    site.show("#pets@3")

    assert site.texts(".said .note") == ["No figures can be shown: they are of another store."]


def test_a_card_of_absurd_size_is_not_read(tmp_path: Path, site: Visit) -> None:
    write_catalogue(tmp_path, VERSIONS)
    write_card(tmp_path, PETS, "[" * 200_000)

    site.show("#pets@3")

    assert site.texts(".card .note") == ["No card can be shown: pets/versions/3.md: has over 131,072 bytes."]
