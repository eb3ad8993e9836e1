import subprocess
import sys

import pytest

import softlab

PUBLIC_NAMES = [
    "ArgmaxLoss",
    "BinaryCrossEntropyLoss",
    "CacheOptions",
    "Catalog",
    "ChainRecipe",
    "CheckOptions",
    "DecisionLoss",
    "DecoupledKlLoss",
    "DeviceOptions",
    "DistLoss",
    "DistilOptions",
    "DumpJob",
    "DumpOptions",
    "DumpRecipe",
    "EvaluateOptions",
    "Evaluation",
    "FeatureLoss",
    "GcOptions",
    "HingeLoss",
    "ImageInput",
    "InheritOptions",
    "JensenShannonLoss",
    "KlLoss",
    "LearnOptions",
    "LogOptions",
    "LogitMseLoss",
    "ModelOptions",
    "OptimizerOptions",
    "PruneOptions",
    "PullOptions",
    "PushOptions",
    "ReverseKlLoss",
    "RunOptions",
    "SearchOptions",
    "SignerOptions",
    "SigningOptions",
    "SoftLabels",
    "SoftlabError",
    "SourceOptions",
    "StandardisedKlLoss",
    "Store",
    "Student",
    "SymmetricKlLoss",
    "TargetOptions",
    "Teacher",
    "TeachersOptions",
    "TrainOptions",
    "TrainRecipe",
    "Validation",
    "VerifyReport",
    "ViewRecipe",
    "build_model",
    "collect_garbage",
    "convert_store",
    "decision_loss",
    "distillation_loss",
    "dump_teacher",
    "evaluate_model",
    "finalize",
    "find_for",
    "inherit",
    "keep_top_k",
    "make_loss",
    "open_source",
    "open_store",
    "open_trusted",
    "plan_dump",
    "pull",
    "push",
    "read_catalog",
    "search",
    "sign_store",
    "survey_teacher",
    "train_students",
    "verify_store",
    "write_report",
]


def test_these_names_and_no_others_are_public() -> None:
    assert sorted(softlab.__all__) == PUBLIC_NAMES


def test_every_public_name_can_be_loaded_and_says_what_it_is() -> None:
    assert [name for name in PUBLIC_NAMES if not getattr(softlab, name).__doc__] == []


@pytest.mark.process
def test_importing_softlab_does_not_import_torch() -> None:
    code = "import sys, softlab; assert 'torch' not in sys.modules"

    subprocess.run([sys.executable, "-c", code], check=True)
