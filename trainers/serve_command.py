"""The arguments of ``python -m trainers serve`` and what is made of them.

Guarantees: an address that other machines reach is taken only where that was allowed in so many words.
Does not: load torch before the command is carried out.

Example:
    >>> declare(commands.add_parser("serve"))
"""

from __future__ import annotations

import argparse
import ipaddress
from pathlib import Path
from typing import TextIO

from trainers.errors import TrainerError
from trainers.events import ServeStopped
from trainers.process import Speaker, Stop
from trainers.spec import PRECISIONS, QuantiseSpec

NO_RUN = "-"
#: The forms of ``QuantiseSpec`` as one word.
_QUANTISED = {"nf4-double": ("nf4", True), "nf4": ("nf4", False), "int8": ("int8", True)}


def declare(serve: argparse.ArgumentParser) -> None:
    """Names the command's arguments."""
    serve.add_argument("--model", type=Path, required=True, help="folder of the base model")
    serve.add_argument("--digest", help="what the folder's digest has to be")
    serve.add_argument("--precision", choices=PRECISIONS, default="auto")
    serve.add_argument("--quantise", choices=tuple(_QUANTISED), help="how the base was held while it was trained on")
    serve.add_argument("--socket", type=Path, required=True)
    serve.add_argument("--tcp", metavar="HOST:PORT", help="listen there as well; an address of this machine")
    serve.add_argument("--allow-others", action="store_true", help="let --tcp be an address that other machines reach")
    serve.add_argument("--idle-seconds", type=float, default=900.0)
    serve.add_argument("--positions", type=int, default=16384, help="tokens of all answers under way, prompts included")
    serve.add_argument("--rows", type=int, default=32, help="answers under way at once")
    serve.add_argument("--waiting", type=int, default=64, help="requests that may wait")
    serve.add_argument("--adapter-mib", type=int, default=1024, help="memory of open adapters")


def carry_out(arguments: argparse.Namespace, stdin: TextIO, speak: Speaker) -> None:
    """Serves until the server ends.

    Raises:
        TrainerError: ``usage``, and as ``trainers.served_model.serve``.
    """
    counts = {name: getattr(arguments, name) for name in ("positions", "rows", "waiting", "adapter_mib")}
    if low := [name for name, value in counts.items() if value < 1]:
        raise TrainerError("usage", f"--{low[0].replace('_', '-')} must be at least 1", "see --help")
    stop = Stop(speak, lambda: ServeStopped(NO_RUN, "signal", 0))
    with stop.listening():
        import torch

        from trainers.engine import Limits
        from trainers.process import default_threads
        from trainers.served_model import Settings, serve
        from trainers.serving import Doors

        torch.set_num_threads(default_threads())
        doors = Doors(arguments.socket, _tcp(arguments), arguments.idle_seconds)
        limits = Limits(arguments.positions, arguments.rows, arguments.waiting)
        settings = Settings(
            model=arguments.model,
            digest=arguments.digest,
            precision=arguments.precision,
            quantise=QuantiseSpec(*_QUANTISED[arguments.quantise]) if arguments.quantise else None,
            doors=doors,
            limits=limits,
            adapter_bytes=arguments.adapter_mib << 20,
        )
        serve(settings, stdin, speak, stop)


def _tcp(arguments: argparse.Namespace) -> tuple[str, int] | None:
    """The address of ``--tcp``; one that is not this machine's own is refused unless it was allowed."""
    if arguments.tcp is None:
        return None
    host, _, port = arguments.tcp.rpartition(":")
    host = host.strip("[]")
    try:
        is_ours = ipaddress.ip_address(host).is_loopback
        number = int(port)
    except ValueError:
        raise TrainerError("usage", "--tcp wants an address and a port", "for example --tcp 127.0.0.1:8001") from None
    if not is_ours and not arguments.allow_others:
        raise TrainerError("usage", f"{host} is reached from other machines", "add --allow-others if that is meant")
    if not 0 <= number < 1 << 16:
        raise TrainerError("usage", "--tcp wants a port below 65536", "for example --tcp 127.0.0.1:8001")
    return host, number
