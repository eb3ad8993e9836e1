"""Views of pairs: the image augmented, and of several captions one after the other."""

from dataclasses import dataclass
from typing import ClassVar

import msgspec

from softlab.errors import InvalidOption
from softlab.indices import RecipeIndex
from softlab.manifest import MixingRecord, TransformRecord, ViewsRecord
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.pairs.pair import Pair
from softlab.modalities.views import ReadExample, View

NEXT_CAPTION = TransformRecord(name="NextCaption", arguments={})
"""View v reads caption v mod n of a sample with n of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairViews:
    """How pairs are augmented: the image by torchvision's transforms, and by the next of several captions.

        augment = softlab.PairViews(transforms=("RandomResizedCrop(224)",), captions=True)

    View v of sample n is a pure function of it, v and n, so a teacher and all its students see the same.
    """

    modality: ClassVar[str] = "pairs"

    transforms: tuple[str, ...] = ()
    """torchvision v2 transforms of the image in their order, each as a call, such as "RandomHorizontalFlip()"."""

    captions: bool = False
    """Whether view v of a sample with n captions has caption v mod n; else all views have the first one."""

    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        _ = self._of_images

    @property
    def _of_images(self) -> ViewRecipe:
        return ViewRecipe(transforms=self.transforms, seed=self.seed)

    @property
    def is_random(self) -> bool:
        """Whether views differ at all."""
        return bool(self.parse())

    def parse(self) -> tuple[TransformRecord, ...]:
        """The transforms with all of their arguments."""
        return (*self._of_images.parse(), *((NEXT_CAPTION,) if self.captions else ()))

    def parse_mixing(self) -> MixingRecord | None:
        """Pairs aren't mixed."""
        return None


class PairReplay:
    """Makes the views of one data set; holds no state, and can be sent to other processes."""

    mixes = False

    def __init__(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> None:
        """Raises InvalidOption for views that pairs don't have."""
        if record.mixing is not None:
            raise InvalidOption(
                "the views are mixed of two samples (MixUp, CutMix), and texts aren't mixed. Choose a store without "
                "mixing, or students of images alone."
            )
        of_images = tuple(each for each in record.transforms if each != NEXT_CAPTION)
        self._turns = len(of_images) < len(record.transforms)
        of_images_alone = msgspec.structs.replace(record, transforms=of_images)
        self._images = ImageReplay(of_images_alone, num_samples=num_samples, recipe_N=recipe_N)

    def in_recipe(self, store_B: list[int], views: list[int]) -> list[tuple[int, int]]:
        """As `softlab.modalities.views.Replay` says."""
        return self._images.in_recipe(store_B, views)

    def views(self, store_B: list[int], views: list[int], read: ReadExample) -> list[View]:
        """One view of each of B samples; each pair read is left as it is."""
        pairs: list[Pair] = [read(store_index) for store_index in store_B]
        own = iter(pairs)
        images = self._images.views(store_B, views, lambda _: next(own).image)
        numbers = [view if self._turns else 0 for _, view in self.in_recipe(store_B, views)]
        return [
            View(Pair(image.example, pair.captions, number % len(pair.captions)), image.partner, image.weight)
            for pair, image, number in zip(pairs, images, numbers, strict=True)
        ]
