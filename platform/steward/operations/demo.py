"""`manage.py demo`: the main job on real parts, told step by step.

Guarantees that each step goes through the same actions, queue, worker, trainer and verifier as in daily use, and that
everything is there to look at afterwards. The people are made up, and so are the data: that is why the reviewer of
the sample can know every identifier that was planted and count honestly what the redaction missed.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from domains.packs import Pack, load_pack
from domains.synthetic import generate_with_identifiers
from domains.synthetic.planted import still_present
from domains.workflows import Workflow
from steward.accounts import actions as accounts
from steward.accounts.models import Membership, User, Workspace
from steward.accounts.roles import Role
from steward.assurance.models import Evaluation, EvaluationState
from steward.audit.actor import Actor
from steward.catalog.bundled import bundled_model
from steward.datasets import actions as datasets
from steward.datasets.intake import receive_file
from steward.datasets.models import Dataset, DatasetVersion, RedactionState, SampleItem, Verdict, VersionState
from steward.datasets.reading import RecordReader
from steward.datasets.residual import residual_risk
from steward.datasets.texts import slots
from steward.keyring import verification_key
from steward.operations.progress import Told
from steward.releases import actions as releases
from steward.releases.bundles import evidence_is_built
from steward.releases.models import Audience, EvidenceBundle, Release
from steward.runs import actions as runs
from steward.runs.models import FineTune, ModelVersion, RunState

SYSTEM = Actor.system("demo")
SEED = 20
MAX_SAMPLE_RECORDS = 300
PEOPLE = {
    "ana": ("Ana Lyst", Role.ANALYST),
    "olga": ("Olga Ficer", Role.COMPLIANCE_OFFICER),
    "aldo": ("Aldo Itor", Role.AUDITOR),
    "rhea": ("Rhea Viewer", Role.REVIEWER),
}


class DemoFailed(Exception):
    """A step did not end as it must; the message says which and why."""


@dataclass(slots=True)
class Outcome:
    """What the demo did, as `--json` writes it."""

    domain: str
    records: int = 0
    findings: int = 0
    base_score: float = 0.0
    tuned_score: float = 0.0
    score_name: str = ""
    n_eval: int = 0
    train_seconds: float = 0.0
    train_tokens: int = 0
    ledger_size: int = 0
    ledger_verified: bool = False
    evidence: str = ""

    def as_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


class Demo:
    """One run of the main job for one domain."""

    def __init__(self, domain: str, told: Told, records: int | None = None) -> None:
        self.pack: Pack = load_pack(domain)
        self.workflow: Workflow = self.pack.workflow(self.pack.demo_workflow)
        self.told = told
        self.records = records or self.workflow.records
        self.outcome = Outcome(domain=domain, score_name=self.workflow.metric)
        self.actors: dict[str, Actor] = {}
        self.planted: dict[str, list[str]] = {}

    def run(self) -> Outcome:
        """All steps in order. Raises DemoFailed where one did not end as it must."""
        workspace = self._workspace()
        version = self._import(workspace)
        version = self._redact(version)
        self._review(version)
        version = self._approve(version)
        model_version = self._fine_tune(version)
        self._evaluate(model_version)
        release = self._release(model_version)
        self._verify(release)
        return self.outcome

    def _workspace(self) -> Workspace:
        slug = f"demo-{self.outcome.domain}"
        workspace = Workspace.objects.filter(slug=slug).first()
        if workspace is None:
            workspace = accounts.create_workspace(
                actor=SYSTEM, slug=slug, name=f"{self.pack.title} demo", domain=self.outcome.domain
            )
        if not User.objects.filter(username="adam").exists():
            accounts.create_user(actor=SYSTEM, username="adam", display_name="Adam Inistrator", is_administrator=True)
        for username, (name, role) in PEOPLE.items():
            user = User.objects.filter(username=username).first() or accounts.create_user(
                actor=SYSTEM, username=username, display_name=name
            )
            if not Membership.objects.filter(user=user, workspace=workspace, role=role).exists():
                accounts.grant_role(actor=SYSTEM, workspace=workspace, user=user, role=role)
            self.actors[username] = Actor.of(user)
        self.told.done("Workspace", f"“{workspace.name}” with {', '.join(name for name, _ in PEOPLE.values())}")
        return workspace

    def _import(self, workspace: Workspace) -> DatasetVersion:
        ana = self.actors["ana"]
        title = self.pack.dataset(self.workflow.dataset).title
        count = Dataset.objects.filter(workspace=workspace).count()
        dataset = datasets.create_dataset(
            actor=ana,
            workspace=workspace,
            name=f"{title} {count + 1}" if count else title,
            purpose="Demonstration on made-up records",
            workflow=self.workflow.name,
        )
        version = receive_file(actor=ana, dataset=dataset, filename="demo.jsonl", chunks=self._lines())
        version = self._await(version, "Import", lambda v: v.state != VersionState.IMPORTING)
        if version.state != VersionState.IMPORTED:
            raise DemoFailed(f"The import failed: {version.problems[:3]}")
        self.outcome.records = version.record_count
        splits = ", ".join(f"{count} {name}" for name, count in version.split_counts.items())
        self.told.done("Import", f"{version.record_count} records of {version.subject_count} people, sealed; {splits}")
        return version

    def _lines(self) -> Iterator[bytes]:
        for record, identifiers in generate_with_identifiers(self.pack, self.workflow.dataset, SEED, self.records):
            self.planted["\n".join(record[field] for field in self.workflow.mapping.fields)] = identifiers
            yield json.dumps(record).encode() + b"\n"

    def _redact(self, version: DatasetVersion) -> DatasetVersion:
        run = datasets.start_redaction(actor=self.actors["ana"], version=version)
        run = self._await(
            run,
            "Redaction",
            lambda r: r.state != RedactionState.RUNNING,
            lambda r: (r.done_count, version.record_count),
        )
        if run.state != RedactionState.DONE:
            raise DemoFailed(f"The redaction failed: {run.failure}")
        self.outcome.findings = run.finding_count
        common = sorted(run.counts_by_type.items(), key=lambda item: -item[1])[:4]
        told = ", ".join(f"{count} {kind.lower()}" for kind, count in common)
        self.told.done(
            "Redaction", f"{run.finding_count} identifiers replaced ({told}, …) with profile “{run.profile}”"
        )
        version.refresh_from_db()
        return version

    def _review(self, version: DatasetVersion) -> None:
        """Rhea reads a random sample and says of each record whether a planted identifier is still there."""
        run = version.redaction
        assert run is not None
        rhea = self.actors["rhea"]
        reader = RecordReader(version)
        size: int | None = None
        while True:
            datasets.draw_sample(actor=rhea, run=run, size=size)
            waiting = {
                item.redacted.ordinal: item
                for item in SampleItem.objects.filter(run=run, verdict="").select_related("redacted")
            }
            for redacted in reader.redacted(run, ordinals=list(waiting)):
                raw = "\n".join(slots(reader.raw_one(redacted.ordinal).payload))
                missed = self._missed(raw, "\n".join(slots(redacted.payload)))
                verdict = Verdict.MISSED if missed else Verdict.CLEAN
                datasets.review_item(actor=rhea, item=waiting[redacted.ordinal], verdict=verdict, missed_count=missed)
            risk = residual_risk(run)
            if risk.is_enough or risk.drawn >= min(MAX_SAMPLE_RECORDS, version.record_count):
                break
            size = risk.to_draw or risk.drawn  # what the bound still needs, or as many again
        self.told.done(
            "Sample review",
            f"{risk.reviewed} records read, {risk.missed} with a missed identifier; with {risk.confidence_percent} % "
            f"confidence at most {risk.bound_per_1000:.0f} in 1,000 (policy: {risk.allowed_per_1000})",
        )

    def _missed(self, raw: str, redacted: str) -> int:
        return len(still_present(self.planted[raw], redacted))

    def _approve(self, version: DatasetVersion) -> DatasetVersion:
        approved = datasets.approve_version(
            actor=self.actors["olga"], version=version, reason="Residual risk in bounds"
        )
        self.told.done("Approval", f"by Olga Ficer, who did not import it; {approved.content_digest[:19]}…")
        return approved

    def _fine_tune(self, version: DatasetVersion) -> ModelVersion:
        model = bundled_model()
        self.told.done("Base model", f"{model.name}, {model.parameters / 1e6:.0f} M parameters, {model.licence}")
        fine_tune = runs.request_fine_tune(
            actor=self.actors["ana"], version=version, base_model=model, name=f"{self.workflow.title} {version.number}"
        )
        fine_tune = self._await(
            fine_tune,
            "Fine-tune",
            lambda f: f.is_over or f.state == RunState.PAUSED,
            lambda f: (f.step, f.steps or 1),
            lambda f: _loss_told(f),
        )
        if fine_tune.state != RunState.SUCCEEDED:
            raise DemoFailed(f"The fine-tune {fine_tune.get_state_display().lower()}: {fine_tune.failure}")
        self.outcome.train_seconds = round(fine_tune.train_seconds, 1)
        self.outcome.train_tokens = fine_tune.tokens
        speed = fine_tune.tokens / max(fine_tune.train_seconds, 0.1)
        self.told.done(
            "Fine-tune",
            f"{fine_tune.steps} steps, {fine_tune.tokens:,} tokens in {fine_tune.train_seconds:.0f} s ({speed:.0f}/s), "
            f"{fine_tune.facts['precision']}; best held-out loss {fine_tune.best_loss:.3f} "
            f"at step {fine_tune.best_step}",
        )
        return fine_tune.model_version

    def _evaluate(self, model_version: ModelVersion) -> None:
        evaluation = model_version.evaluations.first()
        assert evaluation is not None
        evaluation = self._await(
            evaluation,
            "Evaluation",
            lambda e: e.state == EvaluationState.FAILED or e.gate_results.exists(),
            lambda e: (e.done_count, e.total_count),
        )
        if evaluation.state != EvaluationState.DONE:
            raise DemoFailed(f"The evaluation failed: {evaluation.failure}")
        self.outcome.base_score = round(evaluation.base_score or 0, 4)
        self.outcome.tuned_score = round(evaluation.tuned_score or 0, 4)
        self.outcome.n_eval = evaluation.record_count
        self.told.done("Evaluation", _scores_told(evaluation))
        gates = list(evaluation.gate_results.all())
        self.told.done("Gates", ", ".join(f"{gate.title}: {gate.get_state_display().lower()}" for gate in gates))

    def _release(self, model_version: ModelVersion) -> Release:
        release = releases.request_release(
            actor=self.actors["ana"],
            model_version=model_version,
            audience=Audience.INTERNAL,
            purpose="Demonstration inside the team",
        )
        release = releases.approve_release(actor=self.actors["olga"], release=release, reason="All gates passed")
        self.told.done("Release", f"asked for by Ana Lyst, given by Olga Ficer; {release.adapter_digest[:19]}…")
        return release

    def _verify(self, release: Release) -> None:
        """The offline verifier, in a process that has neither Django nor the database."""
        self._await(release, "Evidence", evidence_is_built)
        evidence = EvidenceBundle.objects.get(release=release)
        path = Path(settings.STEWARD_HOME, evidence.path)
        done = subprocess.run(
            [sys.executable, "-m", "compliance.ledger", "verify", str(path), "--key", str(verification_key())],
            cwd=settings.ROOT,
            env={"PYTHONPATH": str(settings.ROOT), "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        self.outcome.evidence = str(path)
        self.outcome.ledger_size = evidence.tree_size
        self.outcome.ledger_verified = done.returncode == 0
        if done.returncode:
            raise DemoFailed(f"The evidence bundle does not verify: {(done.stderr or done.stdout).strip()}")
        self.told.done("Verification", f"offline, by a process without Django; ledger of {evidence.tree_size} entries")

    def _await(
        self,
        row: Any,
        what: str,
        is_over: Callable[[Any], bool],
        progress: Callable[[Any], tuple[int, int]] | None = None,
        note: Callable[[Any], str] | None = None,
    ) -> Any:
        """Shows a bar until the worker has brought `row` to where `is_over` holds, and returns the fresh row."""
        with self.told.bar(what) as bar:
            while True:
                row = type(row).objects.get(pk=row.pk)
                if progress is not None:
                    done, total = progress(row)
                    bar(done, total, note(row) if note is not None else "")
                if is_over(row):
                    return row
                self.told.check_helpers()
                time.sleep(0.3)


def _loss_told(fine_tune: FineTune) -> str:
    latest = fine_tune.measurements.filter(split="train").order_by("-step").first()
    if latest is None:
        return "starting the trainer"
    return f"loss {latest.loss:.3f}, {latest.tokens_per_second or 0:.0f} tokens/s"


def _scores_told(evaluation: Evaluation) -> str:
    def interval(name: str) -> str:
        score, low, high = (100 * getattr(evaluation, f"{name}_{part}") for part in ("score", "low", "high"))
        return f"{score:.0f} % [{low:.0f}–{high:.0f}]"

    scores = f"base {interval('base')}, tuned {interval('tuned')}"
    return f"{evaluation.metric} on {evaluation.record_count} held-out records: {scores}"
