"""Make view v of sample n, the same to the last bit in any worker, batch, order, process and machine with the same
libraries and kind of processor: nothing is drawn that (seed, v, n) doesn't decide."""

# Shape letters: B rows in a batch, N samples, C channels, H height, W width.

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from softlab.errors import InvalidOption, UnreadableSample
from softlab.indices import RecipeIndex
from softlab.manifest import TransformRecord, ViewsRecord
from softlab.modalities.images.example import ImageExample, pixels_of
from softlab.modalities.images.views.described import describe_transform
from softlab.modalities.images.views.first_transform import apply_transform
from softlab.modalities.images.views.mixing import draw_mix, mix_images
from softlab.modalities.images.views.transforms import build_transform, reason_of
from softlab.modalities.views import ReadExample, View, draw, in_recipe


class ImageReplay:
    """The random part of the views of one data set; holds no state, and can be sent to other processes."""

    def __init__(self, views: ViewsRecord, *, num_samples: int, recipe_N: RecipeIndex | None = None) -> None:
        """`recipe_N` is the recipe index of each sample of the store, where it differs from the store index. Raises
        InvalidOption for transforms that can't be built, or mixing with a single sample."""
        if views.mixing is not None and num_samples < 2:
            raise InvalidOption("MixUp and CutMix need a second sample to mix with. Add samples, or leave mixing out.")
        assert views.mixing is None or recipe_N is None, "samples are mixed with any of those that the teacher saw"
        self._mixing, self._seed, self._num_samples = views.mixing, views.seed, num_samples
        self._first, self._recipe_N = views.first, recipe_N
        self._transforms = [(record, build_transform(record)) for record in views.transforms]

    @property
    def mixes(self) -> bool:
        return self._mixing is not None

    def in_recipe(self, store_B: list[int], views: list[int]) -> list[tuple[int, int]]:
        """As `softlab.modalities.views.Replay` says."""
        return in_recipe(store_B, views, first=self._first, recipe_N=self._recipe_N)

    def views(self, store_B: list[int], views: list[int], read: ReadExample) -> list[View]:
        """One view of each of B samples; each image read is left as it is, and so is torch's global state."""
        if not self._transforms and not self.mixes:
            return [View(read(store_index), store_index, 1.0) for store_index in store_B]
        rows = self.in_recipe(store_B, views)
        seeds = [
            self._pixel_seed(recipe_index, view) for recipe_index, view in rows
        ]  # in one go: between images each took 4 us
        with _settings_of_its_own():
            return [
                self._view(store_index, view, seed, read)
                for store_index, (_, view), seed in zip(store_B, rows, seeds, strict=True)
            ]

    def _view(self, store_index: int, view: int, seed: int, read: ReadExample) -> View:
        image_CHW = self._transformed(read(store_index), seed)
        mix = None
        if self._mixing is not None:
            # Where views are mixed, the recipe and the store count samples alike.
            key = draw(self._seed, view, store_index, purpose=b"mixing")
            mix = draw_mix(self._mixing, key, sample=store_index, num_samples=self._num_samples)
        if mix is None:
            return View(image_CHW, store_index, 1.0)
        partner_CHW = self._transformed(read(mix.partner), self._pixel_seed(mix.partner, view))
        mixed_CHW, weight = mix_images(pixels_of(image_CHW), pixels_of(partner_CHW), mix)
        return View(mixed_CHW, mix.partner, weight)

    def _pixel_seed(self, recipe_index: int, view: int) -> int:
        """32 bits, which is all that torch's generator keeps."""
        return draw(self._seed, view, recipe_index, purpose=b"pixels") & 0xFFFFFFFF if self._transforms else 0

    def _transformed(self, image_CHW: ImageExample, seed: int) -> ImageExample:
        if self._transforms:
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reset the GPUs' generators
        for record, transform in self._transforms:
            try:
                changed_CHW = apply_transform(transform, image_CHW)
            except UnreadableSample:
                raise
            except Exception as error:  # whatever torchvision runs into with an image that it can't take
                raise _not_applicable(record, image_CHW, reason_of(error)) from error
            if 0 in changed_CHW.shape:
                raise _not_applicable(record, image_CHW, "nothing is left of it")
            image_CHW = changed_CHW
        return image_CHW


def _not_applicable(record: TransformRecord, image_CHW: ImageExample, reason: str) -> InvalidOption:
    size = "x".join(map(str, image_CHW.shape))
    return InvalidOption(
        f"transform {describe_transform(record)} can't be applied to an image of {size} (channels x height x width): "
        f"{reason}. Change its arguments, or bring all images to one size and kind before it."
    )


@contextmanager
def _settings_of_its_own() -> Iterator[None]:
    """While views are made torch's settings are these, whoever asks; afterwards they are what they were.

    One thread, as a loader's workers have: several round the mean of a large image otherwise, which ColorJitter and
    RandAugment take. Another default dtype or device would draw otherwise, autocast would round otherwise.
    """
    state, threads, dtype = torch.default_generator.get_state(), torch.get_num_threads(), torch.get_default_dtype()
    on_cpu = (
        nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
    )  # which slows every call
    try:
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        with on_cpu, torch.autocast("cpu", enabled=False), _exact_products():
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.default_generator.set_state(state)


@contextmanager
def _exact_products() -> Iterator[None]:
    """float32 matrices multiplied as such, though `torch.set_float32_matmul_precision` may ask for bfloat16."""
    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if matmul is None:  # before torch 2.9
        yield
        return
    precision = matmul.fp32_precision
    try:
        matmul.fp32_precision = "ieee"
        yield
    finally:
        matmul.fp32_precision = precision
