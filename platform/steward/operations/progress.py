"""What the demo tells people at a terminal: one line a step, a bar while it lasts, a table at the end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from steward.operations.children import Child
from steward.operations.following import watch

Bar = Callable[[int, int, str], None]


class Told:
    """Prints steps and keeps an eye on the helper processes that carry them out."""

    def __init__(self, console: Console, helpers: list[Child]) -> None:
        self.console = console
        self._helpers = helpers
        self._started = time.monotonic()

    def done(self, step: str, what: str) -> None:
        """A step ended well."""
        seconds = time.monotonic() - self._started
        self.console.print(
            f"[green]✓[/green] [bold]{step:<14}[/bold] {what} [dim]{seconds:.0f} s[/dim]", highlight=False
        )

    @contextmanager
    def bar(self, step: str) -> Iterator[Bar]:
        """A progress bar for a step; it vanishes when the step is over. Without a terminal, nothing is drawn."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.fields[note]}"))
        is_drawn = self.console.is_terminal
        with Progress(
            *columns, TimeElapsedColumn(), console=self.console, transient=True, disable=not is_drawn
        ) as progress:
            task = progress.add_task(f"{step:<14}", total=None, note="")

            def update(done: int, total: int, note: str) -> None:
                progress.update(task, completed=done, total=total or None, note=note)

            yield update

    def check_helpers(self) -> None:
        """Sees to it that the queued work goes on: starts again what died, or takes over from a stopped supervisor."""
        for told in watch(self._helpers):
            self.console.print(f"[yellow]{told}[/yellow]")
