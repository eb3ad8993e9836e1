"""Images as a modality."""

# Shape letters: C channels, H height, W width.

from collections.abc import Sequence
from types import MappingProxyType

from torch import Tensor

from softlab.indices import RecipeIndex
from softlab.manifest import ViewsRecord
from softlab.modalities.images.decode import decode_image
from softlab.modalities.images.inputs import ImageInput, make_input
from softlab.modalities.images.torchvision_sets import open_named
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.images.views.replay import ImageReplay
from softlab.modalities.inputs import Collated, Inputs
from softlab.modalities.views import tensor_digest
from softlab.sources.source import Raw


class Images:
    """An example is an image, uint8 [C, H, W]."""

    name = "images"
    field = "image"
    libraries = ("torchvision", "numpy", "pillow")
    input_options = ImageInput
    view_options = ViewRecipe
    data_sets = MappingProxyType({"torchvision": open_named})

    def decode(self, raw: Raw) -> Tensor:
        return decode_image(raw)

    def replay(self, record: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> ImageReplay:
        return ImageReplay(record, num_samples=num_samples, recipe_N=recipe_N)

    def digest(self, example: Tensor) -> int:
        return tensor_digest(example)

    def collate(self, examples: Sequence[Tensor], options: ImageInput) -> Collated:
        return Collated(inputs=Inputs(positional=(make_input(examples, options),)))


MODALITY = Images()
