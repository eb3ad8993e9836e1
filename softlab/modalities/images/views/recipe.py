"""What makes one view of a sample differ from another: the random part, shared by a teacher and all its students."""

from dataclasses import dataclass
from typing import ClassVar

from softlab.errors import check_option
from softlab.manifest import MixingRecord, TransformRecord
from softlab.modalities.images.views.transforms import parse_transform
from softlab.modalities.views import check_seed

MIN_ALPHA = 0.001
"""With it a mixed view is as good as unmixed; of far smaller ones, Beta's shares come out as NaN."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewRecipe:
    """How images are augmented: the random part of a view, which comes before each model's own size and normalisation.

        augment = softlab.ViewRecipe(transforms=("RandomResizedCrop(224)", "RandomHorizontalFlip()"), mixup=0.2)

    View v of sample n is a pure function of it, v and n, so a teacher and all its students see the same pixels.
    """

    modality: ClassVar[str] = "images"

    transforms: tuple[str, ...] = ()
    """torchvision v2 transforms in their order, each as a call, such as "RandomCrop(28, padding=2)"."""

    mixup: float | None = None
    """Alpha of MixUp: each view is blended with that of another sample, in a share drawn from Beta(alpha, alpha)."""

    cutmix: float | None = None
    """Alpha of CutMix: a box of each view is replaced by another sample's, its share drawn from Beta(alpha, alpha)."""

    cutmix_share: float = 0.5
    """Where both are given: the share of the mixed views that are cut, not blended."""

    mix_share: float = 1.0
    """Share of the views that are mixed at all."""

    seed: int = 0
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        for name, alpha in [("mixup", self.mixup), ("cutmix", self.cutmix)]:
            is_right = alpha is None or MIN_ALPHA <= alpha <= 1000
            check_option(is_right, f"augment.{name}", alpha, f"{MIN_ALPHA} to 1000")
        for name, share in [("cutmix_share", self.cutmix_share), ("mix_share", self.mix_share)]:
            check_option(0 <= share <= 1, f"augment.{name}", share, "0 to 1")
        check_seed(self.seed)
        self.parse()

    def parse(self) -> tuple[TransformRecord, ...]:
        """The transforms with all of their arguments. Raises InvalidOption."""
        return tuple(map(parse_transform, self.transforms))

    @property
    def mixes(self) -> bool:
        return self.mixup is not None or self.cutmix is not None

    @property
    def is_random(self) -> bool:
        """Whether views differ at all."""
        return bool(self.transforms) or self.mixes

    def parse_mixing(self) -> MixingRecord | None:
        """None where views aren't mixed."""
        if not self.mixes:
            return None
        return MixingRecord(mixup=self.mixup, cutmix=self.cutmix, cutmix_share=self.cutmix_share, share=self.mix_share)
