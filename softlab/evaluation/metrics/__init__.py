"""What is measured of a model, a file for each metric; one that is listed here is in all files, curves and tables."""

from softlab.evaluation.metrics.acceptance import Acceptance
from softlab.evaluation.metrics.accuracy import Accuracy
from softlab.evaluation.metrics.answers import AnswerF1, AnswerMatch, AnswerPosition
from softlab.evaluation.metrics.calibration_error import CalibrationError
from softlab.evaluation.metrics.class_f1 import ClassF1
from softlab.evaluation.metrics.entity_f1 import EntityF1
from softlab.evaluation.metrics.f1 import MacroF1, MicroF1
from softlab.evaluation.metrics.matthews import Matthews
from softlab.evaluation.metrics.mean_average_precision import MeanAveragePrecision
from softlab.evaluation.metrics.metric import Metric
from softlab.evaluation.metrics.needs import what_is_known
from softlab.evaluation.metrics.neighbour_accuracy import NeighbourAccuracy
from softlab.evaluation.metrics.pair_recall import PairRecall
from softlab.evaluation.metrics.perplexity import Perplexity
from softlab.evaluation.metrics.rankings import Mrr, Ndcg, RankedShare
from softlab.evaluation.metrics.robust_accuracy import RobustAccuracy
from softlab.evaluation.metrics.teacher_accuracy import TeacherAccuracy
from softlab.evaluation.metrics.teacher_agreement import TeacherAgreement
from softlab.evaluation.metrics.teacher_distances import TeacherCosine, TeacherMse
from softlab.evaluation.metrics.teacher_divergences import (
    TeacherBucketJensenShannon,
    TeacherBucketKl,
    TeacherJensenShannon,
    TeacherKl,
    TeacherSampledKl,
)
from softlab.evaluation.metrics.teacher_overlap import TeacherOverlap
from softlab.evaluation.metrics.top5_accuracy import Top5Accuracy
from softlab.loading.aligned import Aligned

_IN_ORDER: tuple[type[Metric], ...] = (
    Perplexity,
    Accuracy,
    Top5Accuracy,
    ClassF1,
    EntityF1,
    Matthews,
    MeanAveragePrecision,
    MicroF1,
    MacroF1,
    CalibrationError,
    RobustAccuracy,
    AnswerMatch,
    AnswerF1,
    AnswerPosition,
    Ndcg,
    Mrr,
    RankedShare,
    TeacherAccuracy,
    TeacherAgreement,
    TeacherKl,
    TeacherBucketKl,
    TeacherSampledKl,
    TeacherJensenShannon,
    TeacherBucketJensenShannon,
    Acceptance,
    PairRecall,
    NeighbourAccuracy,
    TeacherOverlap,
    TeacherCosine,
    TeacherMse,
)

METRIC_BY_NAME = {metric.name: metric for metric in _IN_ORDER}
"""In the order in which they are shown."""


def measurable(aligned: Aligned) -> tuple[type[Metric], ...]:
    """The metrics that these data tell."""
    known = what_is_known(aligned)
    return tuple(metric for metric in METRIC_BY_NAME.values() if metric.needs <= known)
