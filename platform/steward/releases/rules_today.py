"""Whether what was judged may still leave: its figures against the rules of today.

A policy may have become stricter since a model was judged or an export was proven, and a newer Steward may hold a form
or a gate to narrower limits.

Guarantees that what was not measured may not leave. Does not change model or export: it may leave again once the rules
that refuse it are loosened.

Example:
    >>> refusal_today(export)
    'The rule “Loss of a compressed form” refuses it today. It scores 0.550 where …'
"""

import math
from collections.abc import Iterable
from typing import Any

from steward.accounts.policy import RULES
from steward.assurance.compressing import most_loss_percent, too_lossy
from steward.assurance.gates import gates_today
from steward.assurance.models import GateResult
from steward.releases.models import Export, ExportForm
from steward.runs.models import ModelVersion
from trainers.export_limits import Parity, limits_of

_FIGURES = ("positions", "agreement", "divergence", "loss_difference", "scored", "trained_score", "exported_score")


def refusal_today(export: Export) -> str:
    """Which rule keeps a ready export in the house today, and by what figures; '' if none does.

    An adapter is what was judged itself and has nothing to be compared with.
    """
    if export.form == ExportForm.ADAPTER:
        return ""
    if export.form != ExportForm.COMPRESSED:
        recipe = export.release.model_version.fine_tune.recipe
        return _unlike(export, export.figures, (recipe.get("quantise") or {}).get("form", ""))
    rows = ({"score": export.figures.get(name)} for name in ("tuned_score", "score"))
    reason = too_lossy(*rows, most_loss_percent(export.workspace_id))
    if reason:
        return f"The rule “{RULES['compressed_loss_percent_max'].title}” refuses it today. {reason}"
    return _unlike(export, export.figures.get("written") or {}, "")


def gates_refusing_today(model_version: ModelVersion, results: Iterable[GateResult]) -> list[str]:
    """Today's gates that the results do not pass, with figure and threshold; those not run then are among them."""
    figures = {result.gate: result.figure for result in results if result.has_passed}
    return [
        f"{gate.title} ({_figure(figures.get(gate.name))}, {gate.comparison.replace('_', ' ')} {gate.threshold:g})"
        for gate in gates_today(model_version)
        if not gate.passes(figures.get(gate.name))
    ]


def _figure(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"


def _unlike(export: Export, figures: dict[str, Any], quantised: str) -> str:
    """What of a comparison is beyond the limits of the form, or ''. A score that was not asked for is no fault."""
    name = f"The limits of the form “{export.get_form_display()}” refuse it today"
    if any(figures.get(each) is None for each in _FIGURES[:5]):
        return f"{name}: how alike it answers was not measured."
    parity = Parity(*(math.nan if figures[each] is None else figures[each] for each in _FIGURES))
    limits = limits_of(export.form, quantised)
    return "" if parity.is_within(limits) else f"{name}: it {parity.beside(limits)}."
