"""Running a workflow's gates on an evaluated model version.

Guarantees that each gate of the workflow yields exactly one outcome and that a measure that could not be taken fails
its gate. Every outcome says what the check cannot see.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compliance.ledger.members import BundleError
from compliance.ledger.rows import VerificationError
from compliance.ledger.verify import verify_bundle
from compliance.redaction import Detector, RedactionError
from compliance.vault import VaultError
from domains.gates import Gate
from domains.packs import load_pack
from steward.accounts.models import Workspace
from steward.assurance.free_answers import LIKELIHOOD
from steward.assurance.models import Evaluation, GateState
from steward.assurance.reading import predictions
from steward.audit.actor import Refused
from steward.audit.proofs import export_ledger
from steward.datasets.texts import read_answer
from steward.keyring import verification_key
from steward.profiles.composing import effective_profile
from steward.runs.methods import Output
from steward.runs.models import ModelVersion
from steward.runs.shards import workflow_for


@dataclass(frozen=True, slots=True)
class GateOutcome:
    """What one gate found: `figure` in the gate's own unit, None if it could not be measured."""

    gate: Gate
    state: GateState
    figure: float | None
    explanation: str
    limits: str


@dataclass(frozen=True, slots=True)
class Measure:
    """How one measure is taken, and what it cannot see."""

    take: Callable[[Evaluation], float]
    limits: str


def _gain_low(evaluation: Evaluation) -> float:
    return _present(evaluation.gain_low)


def _tuned_low(evaluation: Evaluation) -> float:
    return _present(evaluation.tuned_low)


def _likelihood_gain_low(evaluation: Evaluation) -> float:
    found = next((each for each in evaluation.measures if each["name"] == LIKELIHOOD), None)
    return _present(found["gain"][1] if found else None)


def _present(value: float | None) -> float:
    if value is None:
        raise ValueError("the evaluation has no such figure")
    return value


def _output_identifier_rate(evaluation: Evaluation) -> float:
    """Share of the tuned model's answers in which the workspace's profile in force, lists included, finds something."""
    try:
        used = effective_profile(evaluation.workspace, load_pack(evaluation.workspace.domain).redaction_profile)
    except Refused as refusal:  # outdated: what would be looked for is not what was approved
        raise ValueError(str(refusal)) from None
    detector = Detector(used.profile)
    answers = [_words(evaluation, row.tuned) for row in predictions(evaluation)]
    if not answers:
        raise ValueError("there are no answers to look at")
    # Of a call of a tool its arguments are read one by one, as they are when a record is redacted.
    return sum(any(map(detector.detect, read_answer(answer))) for answer in answers) / len(answers)


def _words(evaluation: Evaluation, answer: str) -> str:
    """What an answer says in words. Of spans these are their labels; beside them stand places, which name nobody."""
    if evaluation.model_version.fine_tune.method.output is not Output.SPANS:
        return answer
    return " ".join(label for _, _, label in json.loads(answer))


def _ledger_faults(evaluation: Evaluation) -> float:
    """0 if the whole ledger verifies now, from the rows up to the last signed checkpoint, else 1."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.tar")  # entries hold no payload, so a file of them may lie in the open for a moment
        export_ledger(path)
        try:
            verify_bundle(path, [verification_key()])
        except (VerificationError, BundleError):
            return 1.0
        return 0.0


MEASURES: dict[str, Measure] = {
    "tuned_minus_base_low": Measure(
        _gain_low, "Speaks of this test set only; the split is by subject, but the records come from one source."
    ),
    "tuned_score_low": Measure(_tuned_low, "Speaks of this test set only."),
    "likelihood_gain_low": Measure(
        _likelihood_gain_low, "Speaks of this test set only, and of the records' answers, not of what the model writes."
    ),
    "output_identifier_rate": Measure(
        _output_identifier_rate, "Sees what the detector sees, on held-out prompts only; extraction attacks go further."
    ),
    "ledger_faults": Measure(
        _ledger_faults, "Someone who holds the signing key can still rewrite what no witness saw."
    ),
}


def run_gates(evaluation: Evaluation) -> list[GateOutcome]:
    """One outcome for each gate of the evaluated model's workflow."""
    return [_run(gate, evaluation) for gate in gates_today(evaluation.model_version)]


def gates_today(model_version: ModelVersion) -> list[Gate]:
    """The gates of the model's workflow, with the thresholds that pack and policy give them now."""
    workspace = Workspace.objects.get(pk=model_version.workspace_id)
    workflow = workflow_for(workspace.domain, model_version.fine_tune.workflow)
    return [held_to_policy(gate, workspace.rules) for gate in workflow.gates]


def held_to_policy(gate: Gate, rules: Mapping[str, int | bool]) -> Gate:
    """The gate, or where the policy allows fewer identifiers in answers than it does, the gate at that threshold."""
    if gate.measure != "output_identifier_rate" or gate.comparison != "at_most":
        return gate
    return gate.with_threshold(min(gate.threshold, rules["residual_pii_per_1000_max"] / 1000))


def _run(gate: Gate, evaluation: Evaluation) -> GateOutcome:
    measure = MEASURES.get(gate.measure)
    if measure is None:
        return GateOutcome(gate, GateState.ERROR, None, f"No measure “{gate.measure}” is built in.", "It did not run.")
    try:
        figure = measure.take(evaluation)
    except (ValueError, OSError, VaultError, RedactionError) as error:
        return GateOutcome(gate, GateState.ERROR, None, f"Could not be measured: {error}", measure.limits)
    state = GateState.PASSED if gate.passes(figure) else GateState.FAILED
    return GateOutcome(gate, state, figure, gate.reason, measure.limits)
