"""Waiting for queued work at a terminal, with a worker of our own where no supervisor runs.

Guarantees that the helper processes are gone when the block ends, and that a supervisor which stops meanwhile is
noticed: helpers then carry the work on. Queued work that is not finished stays queued.

Example:
    with working() as helpers:
        while not is_done():
            for told in watch(helpers):
                print(told)
"""

from collections.abc import Iterator
from contextlib import contextmanager

from steward.operations.children import Child
from steward.operations.presence import is_supervised
from steward.operations.supervisor import background_children


def watch(helpers: list[Child]) -> list[str]:
    """Starts helpers that died again, and, once no supervisor runs any more, the first ones. Says what it did."""
    if helpers:
        return [told for helper in helpers if (told := helper.watch())]
    if is_supervised():
        return []
    helpers += background_children()
    for helper in helpers:
        helper.start()
    return ["Steward was stopped meanwhile; this command carries the work on."]


@contextmanager
def working() -> Iterator[list[Child]]:
    """Sees to it that a worker and a sealer run inside the block; yields those started for it, a list for `watch`."""
    helpers = [] if is_supervised() else background_children()
    for helper in helpers:
        helper.start()
    try:
        yield helpers
    finally:
        for helper in reversed(helpers):
            helper.ask_to_stop()
        for helper in reversed(helpers):
            helper.wait_until_stopped()
