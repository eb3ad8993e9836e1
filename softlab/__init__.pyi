from .errors import SoftlabError
from .evaluation.evaluation import Evaluation
from .evaluation.one_model import EvaluateOptions, evaluate_model
from .labels.losses import DecisionLoss, decision_loss, distillation_loss
from .labels.selection import keep_top_k
from .labels.soft_labels import SoftLabels
from .models.build import ModelOptions, build_model
from .models.inherit import InheritOptions, inherit
from .report.write import write_report
from .sharing.catalog import Catalog, find_for, read_catalog
from .sharing.gc import GcOptions, collect_garbage
from .sharing.pull import PullOptions, pull
from .sharing.push import PushOptions, push
from .sharing.signers import SignerOptions, SigningOptions
from .sharing.signing import sign_store
from .sharing.trust import open_trusted
from .sources.open import open_source
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
from .teacher.options import DumpOptions
from .teacher.survey import survey_teacher
from .views.finishing import Finishing
from .views.view_recipe import ViewRecipe

__all__ = [
    "CacheOptions",
    "Catalog",
    "DecisionLoss",
    "DumpOptions",
    "EvaluateOptions",
    "Evaluation",
    "FeatureLoss",
    "Finishing",
    "GcOptions",
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
    "find_for",
    "inherit",
    "keep_top_k",
    "open_source",
    "open_store",
    "open_trusted",
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
