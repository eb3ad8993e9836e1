"""What each student of a run learns with its heads."""

from collections.abc import Mapping

from softlab.errors import InvalidOption, StoreMismatch
from softlab.loading.aligned import Aligned
from softlab.loading.order import ShuffledBatches
from softlab.student.heads.objective import HeadsObjective
from softlab.student.heads.plan import HeadPlan
from softlab.student.heads.targets import no_target
from softlab.student.objective import Objective
from softlab.student.objectives import HARD_SUFFIX, make_objectives
from softlab.student.options import LearnOptions, TrainOptions


def objectives_of_heads(
    plans: Mapping[str, HeadPlan],
    learnt: Mapping[str, LearnOptions],
    options: TrainOptions,
    aligned: Aligned,
    order: ShuffledBatches,
) -> dict[str, HeadsObjective]:
    """What each student learns with its heads, and each baseline behind them: of every head what `make_objectives`
    gives a student of that output alone. Raises as that, naming the head."""
    parts: dict[str, dict[str, Objective]] = {}
    for head, plan in plans.items():
        own = aligned.heads[head]
        try:
            found = make_objectives(plan.students, options, own, order, num_stores=1)
        except (InvalidOption, StoreMismatch) as error:
            raise type(error)(f"head {head}: {error}") from error
        for name, objective in found.items():
            if objective.needs_targets and plan.target is None:
                raise no_target(head, plan.source, student=name)
            parts.setdefault(name, {})[head] = objective
    named = [*learnt, *(name for name in parts if name not in learnt)]
    return {
        name: HeadsObjective(
            heads=parts.get(name, {}),
            weights={head: learnt[name.removesuffix(HARD_SUFFIX)].head[head].weight for head in parts.get(name, {})},
            gives_values={head: plan.values_output is not None for head, plan in plans.items()},
            features=learnt[name].feature if name in learnt else {},
        )
        for name in named
    }
