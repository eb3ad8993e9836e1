import ast
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import version

import pytest

import softlab
from softlab import errors

PUBLIC_NAMES = [
    "AccessDenied",
    "Advice",
    "AdviseOptions",
    "AdviseRecipe",
    "ArgmaxLoss",
    "AttackOptions",
    "AudioInput",
    "AudioViews",
    "BinaryCrossEntropyLoss",
    "CacheOptions",
    "Catalog",
    "ChainRecipe",
    "ChangedCache",
    "CheckOptions",
    "ClassesOptions",
    "Collator",
    "CosineLoss",
    "DamagedCheckpoint",
    "DamagedShards",
    "DamagedStore",
    "DatasetLabels",
    "DecisionLoss",
    "DecoupledKlLoss",
    "DeviceOptions",
    "DistLoss",
    "DistilOptions",
    "DoubtfulLayout",
    "DumpJob",
    "DumpOptions",
    "DumpRecipe",
    "DumpState",
    "EpochNotSet",
    "EvaluateOptions",
    "Evaluation",
    "FeatureLoss",
    "GcOptions",
    "GoesOnDifferently",
    "HeadOptions",
    "HingeLoss",
    "ImageInput",
    "ImportRecipe",
    "InheritOptions",
    "InterpolatedTail",
    "InvalidOption",
    "JensenShannonLoss",
    "KlLoss",
    "LazyLogits",
    "LearnOptions",
    "LittleMass",
    "LogOptions",
    "LogitMseLoss",
    "LossyLabels",
    "MarginMseLoss",
    "ModelError",
    "ModelOptions",
    "NotAStore",
    "NotTrusted",
    "ObjectMissing",
    "OddLabels",
    "OddPredictions",
    "OddSource",
    "OptimizerOptions",
    "OtherNumerics",
    "PairInput",
    "PairMatchingLoss",
    "PairViews",
    "PredictionOptions",
    "PruneOptions",
    "PublishedInput",
    "PullOptions",
    "PushOptions",
    "RandomWeights",
    "RedoneInFloat32",
    "RelationalLoss",
    "RemoteError",
    "RemoteFailed",
    "RetrievalQuality",
    "ReverseKlLoss",
    "RobustOptions",
    "RunOptions",
    "SampleRow",
    "SearchOptions",
    "ShardByShard",
    "SignerOptions",
    "SigningOptions",
    "SilentRows",
    "SimilarityKlLoss",
    "SlowReads",
    "SoftLabels",
    "SoftlabError",
    "SoftlabWarning",
    "SourceError",
    "SourceOptions",
    "SourceSummary",
    "StandardisedKlLoss",
    "Store",
    "StoreBusy",
    "StoreError",
    "StoreExists",
    "StoreMismatch",
    "StoreWriteFailed",
    "Student",
    "SymmetricKlLoss",
    "TargetOptions",
    "Teacher",
    "TeacherError",
    "TeachersOptions",
    "TextInput",
    "TextViews",
    "TokensCollator",
    "TokensInput",
    "TrackerFailed",
    "TrainOptions",
    "TrainRecipe",
    "TrainingFailed",
    "UnfinishedStore",
    "UnreadableSample",
    "UnseenWeights",
    "UnsupportedStore",
    "UsersCode",
    "Validation",
    "ValuesLoss",
    "VectorInput",
    "VectorKlLoss",
    "VectorMseLoss",
    "VerifyReport",
    "VersionTaken",
    "ViewDataset",
    "ViewRecipe",
    "advise",
    "align",
    "build_model",
    "collect_garbage",
    "convert_store",
    "decision_loss",
    "describe_source",
    "distillation_loss",
    "dump_state",
    "dump_teacher",
    "evaluate_model",
    "export_targets",
    "finalize",
    "find_for",
    "import_predictions",
    "inherit",
    "keep_sampled",
    "keep_top_k",
    "make_loss",
    "map_stores",
    "measure_retrieval",
    "open_source",
    "open_store",
    "open_trusted",
    "pair_matching_loss",
    "plan_dump",
    "progress_bar",
    "pull",
    "push",
    "read_catalog",
    "sample_rows",
    "search",
    "sign_store",
    "stored_source",
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


def examples() -> Iterator[tuple[str, ast.Call]]:
    """The calls of public names in the examples of docstrings, which are indented."""
    for name in PUBLIC_NAMES:
        paragraphs = (inspect.getdoc(getattr(softlab, name)) or "").split("\n\n")
        for code in (each for each in paragraphs if each.startswith("    ")):
            for node in ast.walk(ast.parse(textwrap.dedent(code))):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("softlab."):
                    yield name, node


def test_examples_call_what_there_is_as_it_may_be_called() -> None:
    shown = list(examples())

    for _, call in shown:
        function = getattr(softlab, ast.unparse(call.func).removeprefix("softlab."))
        inspect.signature(function).bind(*call.args, **{str(keyword.arg): keyword for keyword in call.keywords})
    first_used = {"Store", "dump_teacher", "open_source", "open_store", "train_students", "distillation_loss"}
    assert first_used <= {name for name, _ in shown}


def test_every_error_and_warning_can_be_caught_by_its_public_name() -> None:
    found = inspect.getmembers(errors, inspect.isclass)
    defined = {name: each for name, each in found if each.__module__ == errors.__name__}

    assert defined.items() == {name: getattr(softlab, name) for name in defined}.items()


def test_the_version_is_that_of_the_package() -> None:
    assert softlab.__version__ == version("softlab")
    with pytest.raises(AttributeError, match="nothing"):
        softlab.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.process
def test_importing_softlab_does_not_import_torch() -> None:
    code = "import sys, softlab; softlab.__version__; assert 'torch' not in sys.modules"

    subprocess.run([sys.executable, "-c", code], check=True)
