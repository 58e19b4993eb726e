"""Where trainers run: on this machine (`local`) or on a Ray cluster (`ray`), with the same spec and the same events.

A launcher guarantees that keys reach the trainer and nobody else, and are in no argument, environment, file or log;
that `events.jsonl` in the run's folder holds what the trainer said once `follow` returned; and that a trainer that was
started outlives the worker that started it. It does not interpret events, and restarts nothing; `following` does.

Example:
    launcher = launcher_of(fine_tune)
    launcher.start(fine_tune, keys)
    while launcher.is_alive(fine_tune):
        launcher.follow(fine_tune)
"""

from typing import Protocol

from steward.runs.models import FineTune, Pool


class Launcher(Protocol):
    """What `following` needs of the place where a trainer runs. The row says which trainer is meant."""

    def start(self, fine_tune: FineTune, keys: bytes) -> None:
        """Starts a trainer that goes on from the run's checkpoint where there is one, and counts the attempt.

        The attempt is that of the one before if that one never began.
        The trainer is remembered in the row before it gets its keys.

        Args:
            keys: the line of `processes.key_line`.

        Raises:
            LaunchError: it cannot be started there; the message says what to do.
        """

    def is_alive(self, fine_tune: FineTune) -> bool:
        """Whether the trainer that the row remembers still runs."""

    def never_began(self, fine_tune: FineTune) -> bool:
        """Whether the trainer that is not alive was given up by its place before it began: it is no death."""

    def follow(self, fine_tune: FineTune) -> None:
        """Brings what the trainer said and made since last time into the run's folder."""

    def cancel(self, fine_tune: FineTune) -> None:
        """Asks the trainer to stop, if it runs; it ends within seconds, after a checkpoint."""

    def pause(self, fine_tune: FineTune) -> None:
        """Asks the trainer to end, if it runs, so that another one goes on later; as `cancel` otherwise."""

    def collect(self, fine_tune: FineTune) -> None:
        """Cleans up behind a trainer that has said its last word."""

    def abandon(self, fine_tune: FineTune) -> None:
        """Ends the trainer, if it runs, and cleans up behind it; what was not brought here is given up."""


class LaunchError(Exception):
    """A trainer cannot be started; `code` is stable, the message says why and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def launcher_of(fine_tune: FineTune) -> Launcher:
    """The launcher of the pool that the fine-tune was queued for."""
    if fine_tune.pool == Pool.RAY:
        from steward.runs.launchers.ray_jobs import RayLauncher

        return RayLauncher()
    from steward.runs.launchers.local import LocalLauncher

    return LocalLauncher()
