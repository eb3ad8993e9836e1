import re
from pathlib import Path

import pytest
import torch

from softlab.errors import InvalidOption, SourceError
from softlab.keys import Keys
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.modality import decode_sample
from softlab.sources import Sample, SkippedSample
from softlab.sources.folder import open_folder
from softlab.sources.subset import first, readable, with_keys, with_targets
from tests.sources.pictures import animals, image_of, truncated_png, write_folder


def decode(sample: Sample) -> object:
    return decode_sample(sample, MODALITY)


def test_the_first_samples_are_those_of_the_whole(tmp_path: Path) -> None:
    whole = open_folder(animals(tmp_path))

    part = first(whole, 3)

    assert len(part) == 3
    assert list(part.keys) == whole.keys[:3]
    assert part.targets["label"].tolist() == [0, 0, 1]
    assert (part.name, part.class_names) == (whole.name, whole.class_names)
    assert torch.equal(image_of(part, 2), image_of(whole, 2))


def test_more_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match=re.escape("limit 5, but there are 4 samples. Lower `source.limit`")):
        first(open_folder(animals(tmp_path)), 5)


def test_samples_are_chosen_by_their_hard_targets(tmp_path: Path) -> None:
    whole = open_folder(animals(tmp_path))

    part = with_targets(whole, (1,))

    assert part.targets["label"].tolist() == [target for target in whole.targets["label"].tolist() if target == 1]
    assert list(part.keys) == [key for key in whole.keys if key.startswith("dog/")]
    assert torch.equal(image_of(part, 0), image_of(whole, 2))
    assert part.class_names == whole.class_names, "targets keep their numbers"


def test_a_hard_target_that_no_sample_has_is_refused(tmp_path: Path) -> None:
    message = "no sample has the hard target 7 (there are: 0, 1). Correct `source.targets`"
    with pytest.raises(InvalidOption, match=re.escape(message)):
        with_targets(open_folder(animals(tmp_path)), (0, 7))


def test_samples_are_chosen_by_their_keys_in_the_order_of_the_source(tmp_path: Path) -> None:
    whole = open_folder(animals(tmp_path))

    part = with_keys(whole, Keys(["dog/1.png", "cat/0.png"]))

    assert list(part.keys) == ["cat/0.png", "dog/1.png"]
    assert part.targets["label"].tolist() == [0, 1]
    assert torch.equal(image_of(part, 1), image_of(whole, 3))


def test_a_key_that_no_sample_has_is_refused(tmp_path: Path) -> None:
    message = "(`source.keys`): 1 of 2 keys are of no sample, the first of them 'cow/0.png'. Correct the file of keys."
    with pytest.raises(InvalidOption, match=re.escape(message)):
        with_keys(open_folder(animals(tmp_path)), Keys(["cat/0.png", "cow/0.png"]))


def test_unreadable_samples_are_left_out_and_listed_and_the_others_renumbered(tmp_path: Path) -> None:
    whole = open_folder(write_folder(animals(tmp_path), {"cat/0.png": b"", "dog/0.png": truncated_png()}))

    rest = readable(whole, decode=decode)

    assert list(rest.keys) == ["cat/1.png", "dog/1.png"]
    assert rest.targets["label"].tolist() == [0, 1]
    assert rest.skipped[0] == SkippedSample(key="cat/0.png", reason="not an image that Pillow can identify")
    assert rest.skipped[1].key == "dog/0.png"
    assert rest.read(1).index == 1
    assert rest.read(1).fields["image"] == whole.read(3).fields["image"]


def test_the_reasons_name_no_place_on_this_machine(tmp_path: Path) -> None:
    whole = open_folder(write_folder(animals(tmp_path), {"dog/0.png": truncated_png()}))
    (tmp_path / "cat/0.png").unlink()

    assert [
        skipped.reason for skipped in readable(whole, decode=decode).skipped if str(tmp_path) in skipped.reason
    ] == []


def test_progress_is_told_after_each_sample(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    readable(open_folder(animals(tmp_path)), decode=decode, on_scan=lambda done, total: calls.append((done, total)))

    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_where_all_are_readable_nothing_changes(tmp_path: Path) -> None:
    whole = open_folder(animals(tmp_path))

    assert readable(whole, decode=decode) is whole


def test_where_none_is_readable_there_is_no_source(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cat/0.png": b""})

    with pytest.raises(SourceError, match=r"none of 1 samples can be decoded; cat/0\.png: .*Check that the path holds"):
        readable(open_folder(tmp_path), decode=decode)
