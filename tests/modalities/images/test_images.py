from collections.abc import Sequence

import pytest

from softlab.manifest import ViewsRecord
from softlab.modalities.images.inputs import ImageInput
from softlab.modalities.images.modality import MODALITY
from softlab.modalities.images.views.recipe import ViewRecipe
from softlab.modalities.modality import InputOptions, Modality
from softlab.modalities.views import record_views
from softlab.sources.source import Raw
from softlab.testing.modalities import ModalityContract
from tests.sources.pictures import encoded, picture


class TestImages(ModalityContract):
    @pytest.fixture
    def modality(self) -> Modality:
        return MODALITY

    @pytest.fixture
    def raws(self) -> Sequence[Raw]:
        return [encoded(picture(seed=seed)) for seed in range(4)]

    @pytest.fixture
    def inputs(self) -> Sequence[InputOptions]:
        return [ImageInput(), ImageInput(size=(8, 8), channels=1)]


class TestImagesWithRandomViews(TestImages):
    @pytest.fixture
    def record(self) -> ViewsRecord:
        recipe = ViewRecipe(transforms=("RandomCrop([4, 6], padding=2)", "ColorJitter(0.5)"), mixup=1.0, cutmix=1.0)
        return record_views(recipe, num_views=3, digest_every=0)
