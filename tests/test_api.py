import subprocess
import sys

import pytest

import softlab

PUBLIC_NAMES = [
    "CacheOptions",
    "Catalog",
    "ChainRecipe",
    "Collator",
    "DatasetLabels",
    "DecisionLoss",
    "DumpJob",
    "DumpOptions",
    "DumpRecipe",
    "EvaluateOptions",
    "Evaluation",
    "FeatureLoss",
    "GcOptions",
    "ImageInput",
    "InheritOptions",
    "ModelOptions",
    "PruneOptions",
    "PullOptions",
    "PushOptions",
    "SearchOptions",
    "SignerOptions",
    "SigningOptions",
    "SoftLabels",
    "SoftlabError",
    "SourceOptions",
    "Store",
    "Student",
    "Teacher",
    "TrainOptions",
    "TrainRecipe",
    "Validation",
    "VerifyReport",
    "ViewDataset",
    "ViewRecipe",
    "align",
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
    "with_index",
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
