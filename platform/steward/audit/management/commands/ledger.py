"""`manage.py ledger export FILE | verify | key`: the ledger, for people at a terminal."""

import tempfile
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compliance.ledger.members import BundleError
from compliance.ledger.rows import VerificationError
from compliance.ledger.verify import verify_bundle
from steward.audit.proofs import export_ledger
from steward.keyring import verification_key


class Command(BaseCommand):
    help = "Exports or verifies the ledger, or prints the key that auditors trust."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="what", required=True)
        export = commands.add_parser("export", help="write a bundle that verifies offline")
        export.add_argument("path", type=Path)
        commands.add_parser("verify", help="verify the ledger now (entries hold no payload)")
        commands.add_parser("key", help="print the verifier key, to hand over out of band")

    def handle(self, *args: Any, what: str, path: Path | None = None, **options: Any) -> None:
        if what == "key":
            self.stdout.write(str(verification_key()))
        elif what == "export":
            assert path is not None
            self.stdout.write(f"{export_ledger(path)} entries written to {path}")
        else:
            self._verify()

    def _verify(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "ledger.tar")
            export_ledger(path)
            try:
                report = verify_bundle(path, [verification_key()])
            except (VerificationError, BundleError) as error:
                raise CommandError(f"The ledger does not verify: {error}") from error
        self.stdout.write(
            f"{report.entries} entries and {report.checkpoints} checkpoints verified; nothing was changed."
        )
