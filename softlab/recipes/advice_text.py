"""Advice in words: the evidence that stores give, and what speaks for a recipe."""

from softlab.amounts import format_count
from softlab.student.advise import Advice
from softlab.student.stored_evidence import NEARLY_ALL, StoredEvidence
from softlab.student.trials import Trial


def evidence_lines(found: Advice) -> list[str]:
    """All of it, as comments above the recipe."""
    facts = [f"{name}: {value}" for each in found.evidence for name, value in facts_of(each).items()]
    return [*facts, *reasons(found)]


def facts_of(evidence: StoredEvidence) -> dict[str, str]:
    """What a store tells."""
    views = format_count(evidence.num_views, "view")
    facts = {"store": f"{evidence.name}: {evidence.num_classes:,} classes, {evidence.kept}, {views}"}
    if evidence.teacher_accuracy is not None:
        facts["teacher accuracy"] = f"{evidence.teacher_accuracy:.2%} of the hard targets"
    if evidence.entropy is not None:
        facts["entropy"] = f"{evidence.entropy:.3f} nats a row"
    for each in evidence.at:
        enough = f"K = {each.enough_k} holds {NEARLY_ALL:.0%}"
        short = f"less than {NEARLY_ALL:.0%}; a larger dump.k would hold more"
        facts[f"kept at T={each.temperature:g}"] = f"{each.mass:.4f} ({short if each.enough_k is None else enough})"
    return facts


def reasons(found: Advice) -> list[str]:
    """What speaks for the recipe, and for other data, a line each."""
    best, runs = found.best, f"{found.cost:.1f} runs of the student"
    after = format_count(found.run.epochs, "epoch")
    lines = [f"Best: {best.result.name}, {_figure(best)} after {after}. All that was tried cost {runs}."]
    if found.is_reached:
        lines.append("The figure that was asked for is reached: the search ended there.")
    if found.hard is not None and found.hard is not best and found.hard.result.error is None:
        lines.append(f"Hard targets alone: {_figure(found.hard)}, in the last round that had them.")
    if found.hard is best:
        lines.append(
            "Hard targets alone are the best here: the stored labels teach this student nothing more. Check the "
            "teacher's accuracy, or give it samples without hard targets, which only a teacher makes useful."
        )
    if found.half is not None and found.half.result.error is None:
        lines.append(
            f"With half of the samples, for as many steps: {_figure(found.half)}; what lies between is about what "
            f"twice the samples would bring. They need no hard targets at alpha 1."
        )
    return [*lines, *_of_views(found)]


def _of_views(found: Advice) -> list[str]:
    num_views = min(each.num_views for each in found.evidence)
    if num_views >= found.run.epochs or num_views == 1:
        return []
    return [
        f"Each of the {num_views} stored views is seen {found.run.epochs / num_views:.1f} times: softlab dump-teacher "
        f"--views +N stores more."
    ]


def _figure(trial: Trial) -> str:
    assert trial.result.best_by is not None, "it was measured"
    assert trial.result.last is not None, "likewise"
    return trial.result.last.figure(trial.result.best_by)
