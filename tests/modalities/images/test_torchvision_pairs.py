from pathlib import Path

from softlab.modalities.images.torchvision_sets import open_torchvision
from tests.sources.pictures import encoded, picture, write_folder


def test_labels_that_a_set_keeps_beside_its_paths_are_targets(tmp_path: Path) -> None:
    image = encoded(picture(size=(8, 8)), form="PPM")
    names = [f"{label:05}/{label}.ppm" for label in (0, 1, 2)]
    write_folder(tmp_path / "gtsrb/GTSRB/Training", dict.fromkeys(names, image))

    source = open_torchvision("GTSRB", root=tmp_path, arguments={"split": "train"})

    assert source.targets["label"].tolist() == [0, 1, 2]
