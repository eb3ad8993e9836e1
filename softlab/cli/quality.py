"""How good a store's soft labels are, as two commands show it."""

from softlab.manifest import Manifest


def cut_off_fact(manifest: Manifest) -> dict[str, str]:
    """How many samples the teacher didn't see whole, and how many tokens, as a fact; none where samples have no
    length."""
    if manifest.cut_off is None:
        return {}
    seen, tokens = manifest.views.num_views * manifest.source.num_samples, manifest.tokens
    fact = f"{manifest.cut_off:,} of {seen:,} samples were longer than the teacher's input"
    if tokens is not None and tokens.cut_off:
        whole = tokens.read + tokens.cut_off
        fact += f", which let in all but {tokens.cut_off:,} of {whole:,} tokens ({tokens.cut_off / whole:.1%})"
    return {"cut off": fact}


def coding_in_words(step: float, kl: float, shift: float) -> str:
    """`steps of 1/16 nats: KL 5e-05 nats a row, a loss moves by 0.003`."""
    in_words = f"1/{round(1 / step)}" if step < 1 and (1 / step).is_integer() else f"{step:g}"
    return f"steps of {in_words} nats: KL {kl:.1g} nats a row, a loss moves by {shift:.1g}"


def quality_facts(manifest: Manifest, *, without_targets: str) -> dict[str, str]:
    """Accuracy and captured mass of each output of kind `classes`, by what they are called. The output's name stands
    there where there are several. `without_targets` is shown where no accuracy is known."""
    facts: dict[str, str] = {}
    for output in manifest.classes:
        name = f" of {output.name}" if len(manifest.classes) > 1 else ""
        statistics = manifest.statistics[output.name]
        accuracy = statistics.accuracy
        masses = zip(output.selection.temperatures, statistics.mean_captured_mass, strict=True)
        facts |= {
            f"teacher accuracy{name}": without_targets if accuracy is None else f"{accuracy:.2%}",
            f"captured mass{name}": ", ".join(f"{mass:.4f} at T={temperature:g}" for temperature, mass in masses),
        }
        if statistics.entries_per_row is not None and statistics.mean_entropy is not None:
            facts[f"entries{name}"] = f"{statistics.entries_per_row:.1f} a row"
            facts[f"entropy{name}"] = f"{statistics.mean_entropy:.3f} nats a row"
        if statistics.coding_cost is not None and output.coding.gap_step is not None:
            facts[f"uint8 coding{name}"] = coding_in_words(output.coding.gap_step, *statistics.coding_cost)
    return facts
