import re
import sys
from pathlib import Path

import pytest

from softlab.errors import InvalidOption, UnreadableSample
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.modality import choose_field, decode_sample, default_input, find_modality, modality_of
from softlab.sources.source import Raw, Sample
from tests.modalities import text_bytes
from tests.sources.pictures import encoded, picture


def sample(**fields: Raw) -> Sample:
    return Sample(index=0, key="a.png", fields=fields, content_hash=b"", place="a.parquet, row 0")


def test_softlabs_own_are_found_by_their_folder_and_others_by_their_module() -> None:
    assert find_modality("images") is MODALITY
    assert find_modality("tests.modalities.text_bytes") is text_bytes.MODALITY
    assert modality_of(text_bytes.TextInput()) is text_bytes.MODALITY


def test_one_in_the_current_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_my_own.py").write_text("MODALITY = 'mine'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())

    assert str(find_modality("of_my_own")) == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("image", "modality 'image': No module named 'image'. Did you mean images?"),
        ("no.such", "modality 'no.such': No module named 'no'."),
        ("", "modality '': "),
        ("os", "'os' is a module of Python itself, which has no models and no modalities. Name a module of yours"),
        ("softlab.errors", "modality 'softlab.errors': errors.py exposes no MODALITY. Set it to an object"),
    ],
)
def test_one_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        find_modality(name)


def test_a_model_that_nothing_is_said_about_has_images() -> None:
    assert default_input() == ImageInput()


def test_of_several_fields_a_modality_reads_the_one_that_it_names() -> None:
    png = encoded(picture())

    assert decode_sample(sample(text="a cat", image=png), MODALITY).shape == (3, 4, 6)
    assert decode_sample(sample(photo=png), MODALITY).shape == (3, 4, 6)
    assert choose_field(text_bytes.MODALITY, ("text", "image"), where="x") == "text"


def test_a_sample_without_such_a_field_is_refused() -> None:
    message = "a.parquet, row 0: has the fields text, photo, and the modality images reads the field 'image'."

    with pytest.raises(InvalidOption, match=re.escape(message)):
        decode_sample(sample(text="a cat", photo=b""), MODALITY)


def test_what_cant_be_decoded_is_an_unreadable_sample() -> None:
    with pytest.raises(UnreadableSample, match=r"a\.parquet, row 0: sample 'a\.png' can't be read: it isn't text"):
        decode_sample(sample(text=b"bytes"), text_bytes.MODALITY)
