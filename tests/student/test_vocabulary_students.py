"""Students of tokens, whose logits are computed some rows at a time: they learn and are measured as with whole ones."""

# Shape letters: B samples in a batch, L tokens of the longest, R rows of all samples, C tokens of the vocabulary.

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import softlab
from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.aligned import beside_store
from softlab.loading.loader import BatchLoader, LoaderOptions
from softlab.loading.order import ShuffledBatches
from softlab.modalities.tokens.inputs import TokensInput
from softlab.modalities.tokens.modality import MODALITY
from softlab.student.objective import Objective
from softlab.student.options import TeachersOptions
from softlab.student.run_folder import StudentResult
from tests.modalities.tokens.llamas import DOCUMENTS
from tests.student.flat_options import learner_of, train_options
from tests.student.language import VOCABULARY, Whole, dump_documents, open_documents, small_model

STEPS = ShuffledBatches(num_samples=len(DOCUMENTS), batch_size=4, epochs=4, seed=3)
TEACHER = Whole(small_model(seed=0, scale=3.0)).eval()


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TokensInput]:
    return open_documents(tmp_path_factory.mktemp("documents"))


@pytest.fixture(scope="module")
def store(documents: tuple[Any, TokensInput], tmp_path_factory: pytest.TempPathFactory) -> softlab.Store:
    """Of all classes, as they are."""
    out = tmp_path_factory.mktemp("store") / "whole"
    return dump_documents(out, *documents, teacher=TEACHER, coding="float32", k=VOCABULARY)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 rows."""
    monkeypatch.setattr("softlab.labels.lazy_logits.CHUNK_BYTES", 20 * 4 * VOCABULARY)


def with_the_teacher_in_the_loop(student: nn.Module, input: TokensInput) -> list[float]:
    """The loss of each step: plain torch code, no store, whole logits."""
    losses = []
    optimizer = torch.optim.AdamW(student.parameters(), weight_decay=0.01, lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(STEPS))
    for rows in STEPS:
        collated = MODALITY.collate([MODALITY.decode(DOCUMENTS[index]) for index in rows.source_B], input)
        ids_BL, mask_BL = collated.inputs.named["input_ids"], collated.inputs.named["attention_mask"]
        learnt_R = mask_BL[:, 1:].bool().flatten()
        with torch.no_grad():
            teacher_RC = TEACHER(ids_BL, mask_BL)[:, :-1].flatten(end_dim=1)[learnt_R]
        student_RC = Whole(student)(ids_BL, mask_BL)[:, :-1].flatten(end_dim=1)[learnt_R]
        divergence = functional.kl_div(student_RC.log_softmax(1), teacher_RC.softmax(1), reduction="batchmean")
        hard = functional.cross_entropy(student_RC, ids_BL[:, 1:].flatten()[learnt_R])
        loss = 0.7 * divergence + 0.3 * hard
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def test_with_all_classes_each_step_has_the_loss_of_training_with_the_teacher(
    documents: tuple[Any, TokensInput], store: softlab.Store
) -> None:
    source, input = documents
    expected = with_the_teacher_in_the_loop(small_model(seed=1), input)
    options = train_options(
        epochs=4, batch_size=4, seed=3, device="cpu", track=(), warmup_epochs=0.0, learning_rate=1e-2
    )
    objective = Objective(teachers=TeachersOptions(alpha=0.7), loss=softlab.KlLoss(temperature=1.0))
    learner = learner_of(small_model(seed=1), objective, options, num_steps=len(STEPS), steps_per_epoch=2)
    loader = BatchLoader(
        beside_store(source, store, (input,)), device=torch.device("cpu"), options=LoaderOptions(workers=0)
    )

    losses = [learner.step(batch, step=step).item() for step, batch in enumerate(loader.load(STEPS))]

    assert losses == pytest.approx(expected, abs=1e-5)
    assert losses[-1] < losses[0]


def trained(
    documents: tuple[Any, TokensInput], store: softlab.Store, students: dict[str, nn.Module], **options: Any
) -> dict[str, StudentResult]:
    source, input = documents
    valid = softlab.Validation(source=source, store=store)
    whole: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 4,
        "device": "cpu",
        "alpha": 0.5,
        "temperature": 1.0,
        "track": (),
    }
    results = softlab.train_students(
        students, source, [store], train_options(**whole | options), input=input, valid=valid
    )
    return {result.name: result for result in results}


def test_several_students_and_baselines_share_a_pass_and_are_measured_as_with_whole_logits(
    documents: tuple[Any, TokensInput], store: softlab.Store
) -> None:
    found = trained(
        documents,
        store,
        {"lazy": small_model(seed=1), "whole": Whole(small_model(seed=1))},
        baseline=True,
        accumulate=2,
    )

    assert list(found) == ["lazy", "whole", "lazy-hard", "whole-hard"]
    for kind in ("", "-hard"):
        lazy, whole = found["lazy" + kind], found["whole" + kind]
        assert lazy.train_loss == pytest.approx(whole.train_loss, abs=1e-5)
        assert lazy.last is not None
        assert whole.last is not None
        assert lazy.last.rows == whole.last.rows == len(DOCUMENTS)
        assert lazy.last.values == pytest.approx(whole.last.values, abs=1e-4)
    result = found["lazy"]
    assert result.best_by == "perplexity"
    assert result.last is not None
    assert result.last.values.keys() == {
        "perplexity",
        "accuracy",
        "calibration_error",
        "teacher_accuracy",
        "teacher_agreement",
        "teacher_kl",
        "teacher_jensen_shannon",
        "acceptance",
    }


def test_under_autocast_the_losses_stay_near(documents: tuple[Any, TokensInput], store: softlab.Store) -> None:
    plain = trained(documents, store, {"small": small_model(seed=1)})["small"]

    short = trained(documents, store, {"small": small_model(seed=1)}, autocast="bfloat16")["small"]

    assert short.train_loss == pytest.approx(plain.train_loss, rel=0.02)
    assert short.train_loss != plain.train_loss


def test_on_the_text_alone_no_store_is_needed(documents: tuple[Any, TokensInput]) -> None:
    source, input = documents
    options = train_options(epochs=20, batch_size=4, device="cpu", learning_rate=1e-2, track=())

    (result,) = softlab.train_students({"small": small_model(seed=1)}, source, [], options, input=input)

    evaluation = softlab.evaluate_model(small_model(seed=1), source, input=input)
    assert evaluation.values["perplexity"] == pytest.approx(VOCABULARY, rel=0.5)
    assert result.train_loss is not None
    assert result.train_loss < torch.tensor(evaluation.values["perplexity"]).log() - 1


def test_a_model_is_measured_against_its_teacher(documents: tuple[Any, TokensInput], store: softlab.Store) -> None:
    source, input = documents

    copy = softlab.evaluate_model(
        small_model(seed=0, scale=3.0),
        source,
        store=store,
        input=input,
        options=softlab.EvaluateOptions(per_class=True),
    )

    assert copy.values["teacher_kl"] == pytest.approx(0, abs=1e-5)
    assert copy.values["acceptance"] == pytest.approx(1)
    assert copy.values["teacher_agreement"] == 1
    assert copy.classes is None


def test_a_loss_over_all_rows_at_once_is_refused(documents: tuple[Any, TokensInput], store: softlab.Store) -> None:
    with pytest.raises(InvalidOption, match=r"Choose another `loss\.name`, such as kl"):
        trained(documents, store, {"small": small_model(seed=1)}, loss="dist")


@pytest.fixture(scope="module")
def sampled(documents: tuple[Any, TokensInput], tmp_path_factory: pytest.TempPathFactory) -> softlab.Store:
    """An unbiased sample of each row's classes."""
    out = tmp_path_factory.mktemp("sampled") / "store"
    return dump_documents(out, *documents, teacher=small_model(seed=0, scale=3.0))


def test_from_samples_students_learn_nearly_what_they_learn_from_all_classes(
    documents: tuple[Any, TokensInput], store: softlab.Store, sampled: softlab.Store
) -> None:
    """Without a word on how little of the teacher's probability the entries have: they stand for all of it."""
    options = {"epochs": 6, "learning_rate": 1e-2, "alpha": 1.0}
    whole = trained(documents, store, {"small": small_model(seed=1)}, **options)["small"]

    found = trained(documents, sampled, {"small": small_model(seed=1)}, **options)["small"]

    assert found.last is not None
    assert whole.last is not None
    assert found.last.values["perplexity"] == pytest.approx(whole.last.values["perplexity"], rel=0.05)
    assert found.last.values["teacher_sampled_kl"] == pytest.approx(whole.last.values["teacher_kl"], abs=0.1)
    assert "teacher_jensen_shannon" not in found.last.values
    assert "teacher_bucket_kl" not in found.last.values


@pytest.mark.parametrize("options", [{"loss": "reverse_kl"}, {"temperature": 2.0}, {"tail": "bucket"}])
def test_what_samples_cannot_tell_is_refused(
    documents: tuple[Any, TokensInput], sampled: softlab.Store, options: dict[str, Any]
) -> None:
    with pytest.raises((InvalidOption, StoreMismatch), match="sample"):
        trained(documents, sampled, {"small": small_model(seed=1)}, **options)
