"""`manage.py demo [--domain healthcare] [--json FILE]`: the main job from import to offline verification."""

from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from domains.packs import available_packs
from steward.audit.actor import UserError
from steward.operations.demo import Demo, DemoFailed, Outcome
from steward.operations.following import working
from steward.operations.progress import Told


class Command(BaseCommand):
    help = "Runs the main job on made-up records of a domain and shows what happened."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--domain", default="healthcare", choices=sorted(available_packs()))
        parser.add_argument("--json", type=Path, default=None, help="also write the outcome to this file")
        parser.add_argument("--records", type=int, default=None, help="fewer or more records than the workflow's own")

    def handle(self, *args: Any, domain: str, json: Path | None, records: int | None, **options: Any) -> None:
        console = Console()
        console.print(f"[bold]Steward[/bold]: the main job, domain [bold]{domain}[/bold]\n")
        call_command("migrate", interactive=False, verbosity=0)
        try:
            with working() as helpers:
                outcome = Demo(domain, Told(console, helpers), records).run()
        except (DemoFailed, UserError) as error:
            raise CommandError(str(error)) from None
        if json is not None:
            json.write_text(outcome.as_json() + "\n")
        console.print(_table(outcome))
        console.print("Look at it: [bold]make up[/bold], then follow the sign-in link it prints.")
        if outcome.tuned_score <= outcome.base_score:
            raise CommandError("The tuned model did not do better than the base model.")


def _table(outcome: Outcome) -> Table:
    table = Table(title="What happened", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")  # a path cut short is of no use
    table.add_row("Records, identifiers replaced", f"{outcome.records:,}, {outcome.findings:,}")
    table.add_row(
        f"{outcome.score_name} on {outcome.n_eval} held-out records",
        f"base {100 * outcome.base_score:.1f} %  →  tuned {100 * outcome.tuned_score:.1f} %",
    )
    table.add_row("Training", f"{outcome.train_tokens:,} tokens in {outcome.train_seconds:.0f} s")
    table.add_row("Ledger", f"{outcome.ledger_size} entries, verified: {'yes' if outcome.ledger_verified else 'NO'}")
    table.add_row("Evidence bundle", outcome.evidence)
    return table
