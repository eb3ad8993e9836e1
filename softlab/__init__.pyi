from .errors import SoftlabError
from .labels.losses import distillation_loss
from .labels.selection import keep_top_k
from .labels.soft_labels import SoftLabels
from .models.build import ModelOptions, build_model
from .sources.open import open_source
from .sources.options import SourceOptions
from .store.cache import CacheOptions
from .store.convert import convert_store
from .store.reader import Store, open_store
from .store.verify import VerifyReport, verify_store
from .student.measure import EvaluateOptions, evaluate_model
from .student.options import TrainOptions
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
    "DumpOptions",
    "EvaluateOptions",
    "Finishing",
    "ModelOptions",
    "SoftLabels",
    "SoftlabError",
    "SourceOptions",
    "Store",
    "Teacher",
    "TrainOptions",
    "Validation",
    "VerifyReport",
    "ViewRecipe",
    "build_model",
    "convert_store",
    "distillation_loss",
    "dump_teacher",
    "evaluate_model",
    "keep_top_k",
    "open_source",
    "open_store",
    "survey_teacher",
    "train_students",
    "verify_store",
]
