"""How good a store's soft labels are, as two commands show it."""

from softlab.manifest import Manifest


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
    return facts
