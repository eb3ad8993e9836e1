from pathlib import Path

import pytest

from softlab.sharing.publish.about import describe_store
from softlab.store.format import FormatName
from softlab.store.reader import open_store
from tests.store.building import FORMATS, make_plan, write_store


@pytest.mark.parametrize("format", FORMATS)
def test_labels_and_values_are_weighed_apart(tmp_path: Path, format: FormatName) -> None:
    write_store(tmp_path, make_plan(format=format, features={"pooled": (6,), "pooled-more": (60,)}))
    manifest = open_store(tmp_path).manifest

    about = describe_store(manifest, digest="a" * 64)

    def weight(*groups: str) -> int:
        files = [path for group in groups for path in (tmp_path / "outputs" / group).rglob("*") if path.is_file()]
        return sum(path.stat().st_size for path in files)

    assert about.label_bytes == weight("logits")
    assert about.value_bytes == weight("pooled", "pooled-more")


def test_the_teachers_input_and_the_first_class_names_are_told(tmp_path: Path) -> None:
    write_store(tmp_path, make_plan())
    manifest = open_store(tmp_path).manifest

    about = describe_store(manifest, digest="a" * 64)

    assert (about.modality, about.input) == ("images", manifest.inputs[0].options)
    assert (about.class_names, about.chosen_from) == ((), None)
