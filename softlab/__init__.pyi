from .errors import (
    AccessDenied,
    ChangedCache,
    DamagedCheckpoint,
    DamagedShards,
    DamagedStore,
    DoubtfulLayout,
    EpochNotSet,
    GoesOnDifferently,
    InterpolatedTail,
    InvalidOption,
    LittleMass,
    LossyLabels,
    ModelError,
    NotAStore,
    NotTrusted,
    ObjectMissing,
    OddLabels,
    OddPredictions,
    OddSource,
    OtherNumerics,
    PublishedInput,
    RandomWeights,
    RedoneInFloat32,
    RemoteError,
    RemoteFailed,
    SilentRows,
    SlowReads,
    SoftlabError,
    SoftlabWarning,
    SourceError,
    StoreBusy,
    StoreError,
    StoreExists,
    StoreMismatch,
    StoreWriteFailed,
    TeacherError,
    TrackerFailed,
    TrainingFailed,
    UnfinishedStore,
    UnreadableSample,
    UnseenWeights,
    UnsupportedStore,
    UsersCode,
    VersionTaken,
)
from .evaluation.attack import AttackOptions
from .evaluation.evaluation import Evaluation
from .evaluation.one_model import EvaluateOptions, evaluate_model
from .evaluation.retrieval import RetrievalQuality, measure_retrieval
from .labels.class_map import ClassesOptions
from .labels.lazy_logits import LazyLogits
from .labels.losses import (
    ArgmaxLoss,
    BinaryCrossEntropyLoss,
    DecisionLoss,
    DecoupledKlLoss,
    DistLoss,
    HingeLoss,
    JensenShannonLoss,
    KlLoss,
    LogitMseLoss,
    ReverseKlLoss,
    StandardisedKlLoss,
    SymmetricKlLoss,
    decision_loss,
    distillation_loss,
    make_loss,
)
from .labels.losses.values import (
    CosineLoss,
    MarginMseLoss,
    PairMatchingLoss,
    RelationalLoss,
    SimilarityKlLoss,
    ValuesLoss,
    VectorKlLoss,
    VectorMseLoss,
    pair_matching_loss,
)
from .labels.sampling import keep_sampled
from .labels.selection import keep_top_k
from .labels.soft_labels import SoftLabels
from .loading.collator import Collator
from .loading.dataset_labels import DatasetLabels
from .loading.options import CheckOptions
from .loading.own_loop import align
from .loading.stored_source import stored_source
from .loading.tokens_collator import TokensCollator
from .loading.view_dataset import ViewDataset
from .loading.with_index import with_index
from .modalities.audio.inputs import AudioInput
from .modalities.audio.views import AudioViews
from .modalities.images.inputs import ImageInput
from .modalities.images.views.recipe import ViewRecipe
from .modalities.opening import open_source
from .modalities.pairs.inputs import PairInput
from .modalities.pairs.views import PairViews
from .modalities.text.inputs import TextInput
from .modalities.text.views import TextViews
from .modalities.tokens.inputs import TokensInput
from .modalities.vectors.inputs import VectorInput
from .models.build import ModelOptions, build_model
from .models.device import DeviceOptions
from .models.inherit import InheritOptions, inherit
from .predictions.options import PredictionOptions
from .progress.bar import progress_bar
from .recipes.advise import AdviseRecipe
from .recipes.chain import ChainRecipe
from .recipes.dump import DumpRecipe
from .recipes.import_predictions import ImportRecipe
from .recipes.train import TrainRecipe
from .report.write import write_report
from .sharing.catalogue.catalog import Catalog, find_for, read_catalog
from .sharing.fetch.pull import PullOptions, pull
from .sharing.publish.gc import GcOptions, collect_garbage
from .sharing.publish.push import PushOptions, push
from .sharing.signing.options import SignerOptions, SigningOptions
from .sharing.signing.sign import sign_store
from .sharing.signing.trust import open_trusted
from .sources.options import SourceOptions
from .sources.summary import SourceSummary, describe_source
from .store.cache import CacheOptions
from .store.convert import convert_store
from .store.dump_state import DumpState, dump_state
from .store.export import export_targets
from .store.mapped import map_stores
from .store.reader import Store, open_store
from .store.sample_rows import SampleRow, sample_rows
from .store.verify import VerifyReport, verify_store
from .student.advise import Advice, AdviseOptions, advise
from .student.feature_losses import FeatureLoss
from .student.heads.options import HeadOptions
from .student.optimizer import OptimizerOptions
from .student.options import (
    DistilOptions,
    LearnOptions,
    LogOptions,
    RunOptions,
    Student,
    TargetOptions,
    TeachersOptions,
    TrainOptions,
)
from .student.pruning import PruneOptions
from .student.robust_options import RobustOptions
from .student.search import SearchOptions, search
from .student.train import train_students
from .student.validation import Validation
from .teacher.dump import dump_teacher
from .teacher.forward import Teacher
from .teacher.import_predictions import import_predictions
from .teacher.job import DumpJob, finalize
from .teacher.options import DumpOptions
from .teacher.planning import plan_dump
from .teacher.shard_by_shard import ShardByShard
from .teacher.survey import survey_teacher

__version__: str

__all__ = [
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
