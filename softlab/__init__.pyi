from .errors import SoftlabError
from .evaluation.evaluation import Evaluation
from .evaluation.one_model import EvaluateOptions, evaluate_model
from .labels.losses import DecisionLoss, decision_loss, distillation_loss
from .labels.selection import keep_top_k
from .labels.soft_labels import SoftLabels
from .loading.collator import Collator
from .loading.dataset_labels import DatasetLabels
from .loading.own_loop import align
from .loading.view_dataset import ViewDataset
from .loading.with_index import with_index
from .modalities.images.inputs import ImageInput
from .modalities.images.views.recipe import ViewRecipe
from .modalities.opening import open_source
from .models.build import ModelOptions, build_model
from .models.inherit import InheritOptions, inherit
from .recipes.chain import ChainRecipe
from .recipes.dump import DumpRecipe
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
from .store.cache import CacheOptions
from .store.convert import convert_store
from .store.reader import Store, open_store
from .store.verify import VerifyReport, verify_store
from .student.feature_losses import FeatureLoss
from .student.options import Student, TrainOptions
from .student.pruning import PruneOptions
from .student.search import SearchOptions, search
from .student.train import train_students
from .student.validation import Validation
from .teacher.dump import dump_teacher
from .teacher.forward import Teacher
from .teacher.job import DumpJob, finalize
from .teacher.options import DumpOptions
from .teacher.planning import plan_dump
from .teacher.survey import survey_teacher

__all__ = [
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
