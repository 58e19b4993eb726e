"""Trainers on this machine: one process for each fine-tune, which sees the devices it was given and no others.

Guarantees and limits are those of `processes`; keys go over stdin.
"""

from steward.runs import processes
from steward.runs.dispatch import devices_of
from steward.runs.launchers.devices import device_environment
from steward.runs.models import FineTune
from steward.runs.specs import run_folder
from steward.trainer_process import trainer_command


class LocalLauncher:
    """See `Launcher`. The trainer writes events, checkpoints and adapter into the run's folder by itself."""

    def start(self, fine_tune: FineTune, keys: bytes) -> None:
        """Starts the process."""
        folder = run_folder(fine_tune)
        command = trainer_command("run", "--spec", str(folder / "spec.json"), "--out", str(folder))

        def remember(process_id: int, started_at: float) -> None:
            fine_tune.process_id, fine_tune.process_started_at = process_id, started_at
            fine_tune.attempt += 1
            fine_tune.save(update_fields=["process_id", "process_started_at", "attempt"])

        processes.start_trainer(command, folder, keys, remember, device_environment(devices_of(fine_tune.pk)))

    def is_alive(self, fine_tune: FineTune) -> bool:
        """Whether that very process runs."""
        return processes.is_alive(fine_tune.process_id, fine_tune.process_started_at)

    def never_began(self, fine_tune: FineTune) -> bool:
        """Never so: a process begins at once."""
        return False

    def follow(self, fine_tune: FineTune) -> None:
        """Nothing to bring: it is all there already."""

    def cancel(self, fine_tune: FineTune) -> None:
        """SIGTERM."""
        if fine_tune.process_id is not None:
            processes.ask_to_stop(fine_tune.process_id, fine_tune.process_started_at or 0)

    def pause(self, fine_tune: FineTune) -> None:
        """SIGUSR1."""
        if fine_tune.process_id is not None:
            processes.ask_to_pause(fine_tune.process_id, fine_tune.process_started_at or 0)

    def collect(self, fine_tune: FineTune) -> None:
        """Leaves no zombie."""
        processes.collect(fine_tune.process_id)

    def abandon(self, fine_tune: FineTune) -> None:
        """SIGTERM, and leaves no zombie."""
        self.cancel(fine_tune)
        self.collect(fine_tune)
