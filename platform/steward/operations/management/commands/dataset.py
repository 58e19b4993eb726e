"""`manage.py dataset redact|review|approve|reject VERSION --as USER`: from an import to an approved version."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from steward.audit.actor import Actor, UserError
from steward.datasets import actions
from steward.datasets.models import DatasetVersion, RedactionState, Verdict
from steward.datasets.reading import RecordReader
from steward.datasets.residual import residual_risk
from steward.datasets.texts import texts
from steward.datasets.verdicts import waiting_for
from steward.operations.terminal import actor_named, add_actor, row_visible_to, wait_for

VERDICTS = {"a": Verdict.CLEAN, "x": Verdict.MISSED, "o": Verdict.OVERMASKED}


class Command(BaseCommand):
    help = "Redacts, reviews and decides on a dataset version."

    def add_arguments(self, parser: CommandParser) -> None:
        steps = parser.add_subparsers(dest="step", required=True)
        for step, text in (
            ("redact", "replace identifiers by the domain's profile"),
            ("review", "read a random sample: a nothing missed, x missed, o over-masked, q stop"),
            ("approve", "let the version be trained on; not by its importer"),
            ("reject", "close the version"),
        ):
            command = steps.add_parser(step, help=text)
            command.add_argument("version", help="id of the version, eight characters are enough")
            add_actor(command)
            if step == "redact":
                command.add_argument("--profile", default=None)
            if step == "reject":
                command.add_argument("--reason", required=True)

    def handle(self, *args: Any, step: str, version: str, username: str, **options: Any) -> None:
        actor = actor_named(username)
        row = row_visible_to(DatasetVersion.objects, actor, version, "dataset version")
        try:
            getattr(self, f"_{step}")(actor, row, options)
        except UserError as error:
            raise CommandError(str(error)) from None

    def _redact(self, actor: Actor, version: DatasetVersion, options: dict[str, Any]) -> None:
        run = actions.start_redaction(actor=actor, version=version, profile=options["profile"])
        total = version.record_count
        run = wait_for(run, "Redaction", lambda r: r.state != RedactionState.RUNNING, lambda r: (r.done_count, total))
        if run.state == RedactionState.FAILED:
            raise CommandError(f"The redaction failed: {run.failure}")
        counts = ", ".join(f"{count} {kind.lower()}" for kind, count in sorted(run.counts_by_type.items()))
        found = f"{run.finding_count} identifiers replaced{': ' if counts else ''}{counts}"
        self.stdout.write(f"{run.done_count} records, {found}")
        if run.set_aside_count:
            self.stdout.write(f"{run.set_aside_count} set aside: two labels met in one replacement")

    def _review(self, actor: Actor, version: DatasetVersion, options: dict[str, Any]) -> None:
        run = version.redaction
        if run is None:
            raise CommandError("Redact the version first.")
        waiting = waiting_for(run, actor.user_id).select_related("redacted")
        if not waiting.exists():
            actions.draw_sample(actor=actor, run=run)
        reader = RecordReader(version)
        for item in list(waiting):
            for record in reader.redacted(run, ordinals=[item.redacted.ordinal]):
                self.stdout.write(f"\n--- record {record.ordinal}, {item.place} of the sample")
                self.stdout.write("\n".join(f"{each.name}: {each.value}" for each in texts(record.payload)))
            answer = input("a nothing missed · x missed · o over-masked · q stop > ").strip().lower()
            if answer == "q":
                break
            if answer not in VERDICTS:
                raise CommandError("Answer a, x, o or q. What you answered before is kept.")
            missed = int(input("how many were missed > ") or "1") if answer == "x" else 0
            actions.review_item(actor=actor, item=item, verdict=VERDICTS[answer], missed_count=missed)
        risk = residual_risk(run)
        self.stdout.write(
            f"\n{risk.reviewed} records reviewed, {risk.missed} with a miss: at most {risk.bound_per_1000:.0f} "
            f"in 1,000 with {risk.confidence_percent} % confidence; the policy allows {risk.allowed_per_1000}."
        )
        if not risk.is_enough and risk.still_needed:
            self.stdout.write(f"{risk.still_needed} more records are enough if none of them has a miss.")

    def _approve(self, actor: Actor, version: DatasetVersion, options: dict[str, Any]) -> None:
        approved = actions.approve_version(actor=actor, version=version)
        self.stdout.write(f"{approved} is approved: {approved.content_digest}")

    def _reject(self, actor: Actor, version: DatasetVersion, options: dict[str, Any]) -> None:
        self.stdout.write(
            f"{actions.reject_version(actor=actor, version=version, reason=options['reason'])} is rejected."
        )
