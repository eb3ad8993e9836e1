from pathlib import Path

from PIL import Image, JpegImagePlugin

from tests.benchmarks.photographs import write_photographs


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_one_seed_gives_the_same_photographs_and_another_one_others(tmp_path: Path) -> None:
    first, again, other = (
        write_photographs(tmp_path / name, count=6, seed=name == "other") for name in ("a", "b", "other")
    )

    assert _bytes_of(first) == _bytes_of(again)
    assert _bytes_of(first).keys() == _bytes_of(other).keys()
    assert not set(_bytes_of(first).values()) & set(_bytes_of(other).values())


def test_photographs_are_jpegs_of_about_500_by_375_in_ten_class_folders(tmp_path: Path) -> None:
    folder = write_photographs(tmp_path / "set", count=20)

    assert sorted({path.parent.name for path in folder.rglob("*.jpg")}) == [
        f"{name}-{part}" for name in ("china", "flower") for part in range(5)
    ]
    for path in folder.rglob("*.jpg"):
        with Image.open(path) as image:
            assert 450 <= image.width <= 550
            assert 300 <= image.height <= 460
            assert JpegImagePlugin.get_sampling(image) == 2  # 4:2:0
