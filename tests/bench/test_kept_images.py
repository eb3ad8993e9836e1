import torch

from softlab.bench.kept_images import KeptImages
from softlab.sources.source import Sample
from tests.teacher.dumping import Pictures


class Counted(Pictures):
    reads = 0

    def read(self, number: int) -> Sample:
        type(self).reads += 1
        return super().read(number)


def test_each_image_is_decoded_once() -> None:
    source = Counted(count=5)
    kept = KeptImages(source)

    images = [kept.read(number).image_CHW for number in (3, 1, 3, 3)]

    assert Counted.reads == 2
    assert images[0] is images[2] is images[3]
    assert torch.equal(images[1], Pictures(count=5).read(1).image_CHW)


def test_all_else_is_the_sources_own() -> None:
    source = Pictures(count=5)
    kept = KeptImages(source)

    assert (kept.name, list(kept.keys), len(kept)) == (source.name, list(source.keys), 5)
    assert (kept.class_names, kept.targets_N, kept.skipped) == (source.class_names, None, ())
    assert kept.raw_bytes(2) == source.raw_bytes(2)
