# Shape letters: B samples in a batch, C classes, D features, L positions.

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from softlab.errors import InvalidOption, ModelError
from softlab.labels.selection import keep_top_k
from softlab.loading.batch import Batch
from softlab.teacher.forward import TeacherOutput, TeacherRun
from softlab.teacher.options import DumpOptions
from softlab.teacher.planning import as_teacher
from softlab.teacher.selections import TopK
from tests.modalities.images.batches import collated, images_in
from tests.teacher.dumping import AfraidOfTheDark, Pictures, assert_same_labels, images_of, make_options, make_teacher

NUMBERS = range(7)
KEPT_WITHOUT_WAITING: list[dict[str, Any]] = [
    {},
    {"feature": {"relu": "relu:mean", "map": "conv"}},
    {"autocast": "float16", "channels_last": True},
    {"head": "sigmoid"},
]


def make_batch(pictures: Pictures | None = None) -> Batch:
    return Batch(
        source_B=torch.tensor(NUMBERS),
        views_B=torch.zeros(len(NUMBERS), dtype=torch.int64),
        inputs=(collated(images_of(pictures or Pictures(), NUMBERS)),),
        content_hashes=(),
    )


def kept_of(
    module: nn.Module, options: DumpOptions | None = None, *, pictures: Pictures | None = None, k: int = 5
) -> TeacherOutput:
    with TeacherRun(as_teacher(module), options or make_options()) as run:
        return run.run(make_batch(pictures), selections={"logits": TopK(k=k)})


def output_of(module: nn.Module, layer: str) -> Tensor:
    """What a plain forward hook sees."""
    seen: list[Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    with torch.inference_mode():
        module.eval()(images_of(Pictures(), NUMBERS))
    handle.remove()
    return seen[0]


class Wrapped(nn.Module):
    """A module whose output is something else than its teacher's."""

    def __init__(self, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.teacher, self.wrap = make_teacher(), wrap

    def forward(self, images_BCHW: Tensor) -> object:
        return self.wrap(self.teacher(images_BCHW))


def test_labels_are_the_top_k_of_the_modules_own_forward_in_eval_mode() -> None:
    module = make_teacher().train()

    kept = kept_of(module)

    with torch.inference_mode():
        expected = keep_top_k(make_teacher().eval()(images_in(make_batch())), k=5)
    assert_same_labels(kept.labels["logits"], expected)
    assert kept.is_finite_B.all()


@pytest.mark.parametrize(
    ("tap", "expected"),
    [
        ("classifier", lambda module: output_of(module, "classifier")),
        ("conv:mean", lambda module: output_of(module, "conv").mean(dim=(2, 3))),
        ("conv:flatten", lambda module: output_of(module, "conv").flatten(1)),
        ("conv", lambda module: output_of(module, "conv")),  # a layer behind it works in place on its output
    ],
)
def test_features_are_those_of_a_plain_forward_hook(tap: str, expected: Callable[[nn.Module], Tensor]) -> None:
    kept = kept_of(make_teacher(), make_options(feature={"tapped": tap}))

    torch.testing.assert_close(kept.values["tapped"], expected(make_teacher()).half(), rtol=0, atol=0)


def test_no_hook_stays_behind() -> None:
    module = make_teacher()

    kept_of(module, make_options(feature={"pool": "relu:mean"}))

    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())


class Transposing(nn.Module):
    """Turns rows into columns, and back."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.turned = module, nn.Identity()

    def forward(self, images_BCHW: Tensor) -> Tensor:
        turned: Tensor = self.turned(self.module(images_BCHW).T)
        return turned.T


def test_a_feature_without_one_row_a_sample_is_refused() -> None:
    with pytest.raises(ModelError, match="Name a layer whose output has the samples first"):
        kept_of(Transposing(make_teacher()), make_options(feature={"turned": "turned"}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_rows_with_a_logit_that_is_not_finite_are_marked(value: float) -> None:
    kept = kept_of(AfraidOfTheDark(value), pictures=Pictures(black=frozenset({1, 4})))

    assert (~kept.is_finite_B).nonzero().flatten().tolist() == [1, 4]


def test_rows_with_a_feature_beyond_float16_are_marked() -> None:
    """Float32 holds it; the store would not."""
    module = AfraidOfTheDark(1e5)
    module.add_module("last", nn.Identity())
    module.register_forward_hook(lambda module, _, output: module.get_submodule("last")(output))

    kept = kept_of(module, make_options(feature={"last": "last"}), pictures=Pictures(black=frozenset({2})))

    assert (~kept.is_finite_B).nonzero().flatten().tolist() == [2]


def test_logits_may_be_a_field_of_the_output() -> None:
    kept = kept_of(Wrapped(lambda logits_BC: SimpleNamespace(logits=logits_BC)))

    assert_same_labels(kept.labels["logits"], kept_of(make_teacher()).labels["logits"])


@pytest.mark.parametrize(
    ("wrap", "found"),
    [
        (lambda logits_BC: logits_BC[0], "a tensor of shape [20]"),
        (lambda logits_BC: logits_BC[1:], "a tensor of shape [6, 20]"),
        (lambda logits_BC: {"logits": logits_BC[1:]}, "the outputs logits [6, 20]"),
        (lambda logits_BC: {"logits": logits_BC.tolist()}, "a dict"),
    ],
)
def test_an_output_that_is_no_classifiers_is_refused(wrap: Callable[[Tensor], object], found: str) -> None:
    with pytest.raises(ModelError) as refused:
        kept_of(Wrapped(wrap))

    assert f"returned {found} for 7 samples" in str(refused.value)
    assert "Wrap it in a module that returns them." in str(refused.value)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            AssertionError("Wrong image height! Expected 224"),
            "expects with the options of [input], such as `input.size` and `input.channels`",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
            "CUDA out of memory. Lower the batch size (`dump.batch_size`, `run.batch_size`).",
        ),
    ],
)
def test_a_forward_pass_that_fails_is_told_with_the_shape_of_its_inputs(error: Exception, hint: str) -> None:
    def fail(logits_BC: Tensor) -> None:
        raise error

    with pytest.raises(ModelError) as refused:
        kept_of(Wrapped(fail))

    assert "can't run on inputs of shape [7, 3, 4, 6]: " in str(refused.value)
    assert hint in str(refused.value)


def test_a_layer_that_is_not_there_is_refused_with_near_names() -> None:
    with pytest.raises(ModelError, match="Did you mean classifier"):
        kept_of(make_teacher(), make_options(feature={"last": "clasifier"}))


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidOption, match=r"Choose `device\.name` among auto, cuda"):
        kept_of(make_teacher(), make_options(device="cuda:99"))


def test_autocast_is_that_of_torch_and_labels_stay_float32() -> None:
    kept = kept_of(make_teacher(), make_options(autocast="bfloat16"))

    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits_BC = make_teacher().eval()(images_in(make_batch()))
    assert logits_BC.dtype == torch.bfloat16
    assert_same_labels(kept.labels["logits"], keep_top_k(logits_BC, k=5))


def test_channels_last_changes_nothing_but_rounding() -> None:
    kept = kept_of(make_teacher(), make_options(channels_last=True))

    expected = kept_of(make_teacher()).labels["logits"]
    assert kept.labels["logits"].class_ids_BK.equal(expected.class_ids_BK)
    torch.testing.assert_close(kept.labels["logits"].logits_BK, expected.logits_BK)


def test_what_arrives_on_the_host_is_what_was_kept() -> None:
    kept = kept_of(make_teacher(), make_options(feature={"relu": "relu:mean"}))

    arrived = kept.start_to_host().wait()

    assert_same_labels(arrived.labels["logits"], kept.labels["logits"])
    assert arrived.values["relu"].equal(kept.values["relu"])
    assert arrived.is_finite_B.equal(kept.is_finite_B)


class SyncIsAnError:
    """Whatever waits for the GPU raises RuntimeError inside the `with` block."""

    def __enter__(self) -> None:
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("values", KEPT_WITHOUT_WAITING)
def test_nothing_waits_for_cuda_until_the_copies_are_asked_for(values: dict[str, Any]) -> None:
    batch = make_batch().to(torch.device("cuda"))
    with TeacherRun(as_teacher(make_teacher()), make_options(device="cuda", **values)) as run:
        # A first pass loads kernels, and reserves the page-locked memory.
        run.run(batch, selections={"logits": TopK(k=5)}).start_to_host().wait()
        with SyncIsAnError():
            on_their_way = [run.run(batch, selections={"logits": TopK(k=5)}).start_to_host() for _ in range(3)]
        arrived = [each.wait() for each in on_their_way]

    assert not any(each.is_finite_B.is_cuda for each in arrived)
    for each in arrived[1:]:
        assert_same_labels(each.labels["logits"], arrived[0].labels["logits"])


@pytest.mark.gpu
def test_waiting_for_cuda_would_be_noticed() -> None:
    with pytest.raises(RuntimeError, match="synchron"), SyncIsAnError():
        torch.ones(3, device="cuda").sum().item()


@pytest.mark.gpu
def test_copies_to_the_host_are_page_locked() -> None:
    kept = kept_of(make_teacher(), make_options(device="cuda"))

    arrived = kept.start_to_host().wait()

    assert arrived.labels["logits"].logits_BK.is_pinned()
    assert arrived.is_finite_B.is_pinned()


@pytest.mark.gpu
def test_what_arrives_from_cuda_is_on_the_host_and_the_same() -> None:
    kept = kept_of(make_teacher(), make_options(feature={"relu": "relu:mean"}, device="cuda"))

    arrived = kept.start_to_host().wait()

    assert kept.is_finite_B.is_cuda
    assert arrived.is_finite_B.all()
    assert_same_labels(arrived.labels["logits"], kept.labels["logits"].to("cpu"))
    assert arrived.values["relu"].equal(kept.values["relu"].cpu())
