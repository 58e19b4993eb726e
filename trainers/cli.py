"""The commands of ``python -m trainers``.

Guarantees: whatever goes wrong ends in one ``run.failed`` (or ``run.cancelled``) event and the exit code of
``trainers.errors``; a fault of ours names its type and place in our code, never a value.
Does not: read keys from anywhere but stdin.

Example:
    ``python -m trainers run --spec spec.json --out run/ < keys.json``
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from trainers import serve_command
from trainers.errors import (
    EXIT_CANCELLED,
    EXIT_DONE,
    EXIT_FAULT,
    EXIT_MEMORY,
    EXIT_PAUSED,
    EXIT_REFUSED,
    Cancelled,
    Paused,
    TrainerError,
)
from trainers.events import ModelPrepared, RunCancelled, RunFailed, RunPaused
from trainers.keys import Keys, read_keys
from trainers.process import (
    Speaker,
    Stop,
    default_threads,
    keep_freed_memory,
    keep_threads_awake,
    only_one,
    prepare_process,
)
from trainers.saved_step import saved_step
from trainers.spec import Spec, SpecError, load_spec

if TYPE_CHECKING:
    from trainers.parallel import Group

NO_RUN = "-"
#: What a fault of ours leaves behind: so many faults that it came of, and so many places of our code for each.
MOST_FAULTS, MOST_FRAMES = 3, 5
#: As in ``trainers.export``, which is not imported before a command needs it.
EXPORT_FORMATS = ("merged", "gguf-f16", "gguf-q8_0", "gguf-q4_k_m", "gguf-q5_k_m", "gguf-q6_k")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise TrainerError("usage", message, "python -m trainers --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m trainers", description="Fine-tunes, evaluates and serves; keys come over stdin.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    for name, text in (
        ("run", "train; goes on where a checkpoint of the same spec lies in --out"),
        ("resume", "like run, but fails without a checkpoint"),
        ("validate", "check spec, model folder and data; needs no --out"),
        ("fit", "memory and time the run would take on this machine; needs no --out"),
        ("evaluate", "score base and tuned on data.test"),
        ("export", "merge base and adapter into one sealed file and prove that it answers alike"),
        ("compress", "quantise, prune or shrink the tuned model in several ways, and measure each"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--spec", type=Path, required=True)
        if name not in ("validate", "fit"):
            command.add_argument("--out", type=Path, required=True)
        if name in ("run", "resume"):
            # Set by the first of several processes for the others.
            command.add_argument("--rank", type=int, default=0, help=argparse.SUPPRESS)
            command.add_argument("--meeting", default="", help=argparse.SUPPRESS)
            command.add_argument("--doors", default="", help=argparse.SUPPRESS)
        if name == "evaluate":
            command.add_argument("--metric", required=True)
            command.add_argument("--max-new-tokens", type=int, default=32)
            command.add_argument("--limit", type=int)
            command.add_argument(
                "--free", action="store_true", help="answers are free texts: as long as the longest reference needs"
            )
        if name == "export":
            command.add_argument("--format", choices=EXPORT_FORMATS, default="merged")
            command.add_argument("--plain", action="store_true", help="also leave the file in clear, once it is proven")
            command.add_argument("--metric", default="", help="also score whole answers to held-out prompts")
            command.add_argument("--max-new-tokens", type=int, default=32)
        if name == "resume":
            command.add_argument("--step", type=int, help="go on from an older state that keep_checkpoints kept")
        if name == "compress":
            command.add_argument("--ways", default="", help="by comma; see trainers/compression.py")
            command.add_argument("--metric", default="")
            command.add_argument("--max-new-tokens", type=int, default=32)
            command.add_argument("--limit", type=int, default=64)
            command.add_argument("--heal-steps", type=int, default=20)
            command.add_argument("--keep", default="", help="the way whose model is sealed in --out")
    remote = commands.add_parser("remote", help="train for a platform that connects to this machine")
    remote.add_argument("--run", required=True)
    remote.add_argument("--platform-key", required=True, help="64 hex digits; whoever holds it may give orders")
    remote.add_argument("--address", default="", help="as the platform reaches this machine; found by itself if empty")
    remote.add_argument("--patience", type=float, default=24 * 3600.0, help="seconds without the platform")
    remote.add_argument("--node", type=int, default=0, help="number of this machine, where a run has several")
    machines = commands.add_parser("machines", help="as a Ray job: start remote on several machines at once")
    machines.add_argument("--run", required=True)
    machines.add_argument("--platform-key", required=True, help="as of remote")
    machines.add_argument("--nodes", type=int, required=True)
    machines.add_argument("--cpus", type=int, default=1, help="of each machine")
    machines.add_argument("--gpus", type=int, default=0, help="of each machine")
    machines.add_argument("--gather", type=float, default=120.0, help="seconds to wait for machines the cluster lacks")
    for each in (remote, machines):
        each.add_argument("--port", type=int, default=0, help="where the platform connects; 0: any")
        each.add_argument("--ring-port", type=int, default=0, help="where the other machines connect; 0: any")
    serve_command.declare(commands.add_parser("serve", help="answer many at a time with one base and many adapters"))
    bundled = commands.add_parser("bundled", help="lay the bundled base model out as a safetensors folder")
    bundled.add_argument("--cache", type=Path, required=True)
    looked = commands.add_parser("inspect", help="judge a model folder without loading a weight")
    looked.add_argument("source", type=Path)
    brought = commands.add_parser("import", help="judge a folder, an archive or a GGUF file, and copy it to --to")
    brought.add_argument("source", type=Path)
    fetched = commands.add_parser("download", help="the same with one commit of a repository of the hub")
    fetched.add_argument("repository")
    fetched.add_argument("--revision", required=True, help="a commit's full hash")
    fetched.add_argument("--allow-network", action="store_true", help="without it nothing is asked")
    for each in (brought, fetched):
        each.add_argument("--to", type=Path, required=True)
        each.add_argument("--max-bytes", type=int, default=512 << 30)
    return parser


def main(argv: list[str], stdin: TextIO, stdout: TextIO) -> int:
    """Runs one command and returns the exit code."""
    speak = Speaker(stdout)
    run = NO_RUN
    try:
        arguments = _parser().parse_args(argv)
        prepare_process()
        if arguments.command == "download" and arguments.allow_network:
            os.environ["HF_HUB_OFFLINE"] = "0"
        if arguments.command in ("bundled", "inspect", "import", "download"):
            _on_models(arguments, speak)
            return EXIT_DONE
        if arguments.command == "remote":
            from trainers.remote import serve_remote

            run = arguments.run
            serve_remote(arguments, speak)
            return EXIT_DONE
        if arguments.command == "machines":
            from trainers.machines import hold_machines

            run = arguments.run
            hold_machines(arguments, speak)
            return EXIT_DONE
        if arguments.command == "serve":
            serve_command.carry_out(arguments, stdin, speak)
            return EXIT_DONE
        spec = _spec(arguments.spec)
        run = spec.run
        _command(arguments, spec, stdin, speak)
    except TrainerError as fault:
        speak(RunFailed(run, fault.code, str(fault), fault.hint))
        return fault.exit_code
    except SpecError as fault:
        speak(RunFailed(run, "spec.invalid", str(fault), "correct these keys; see trainers/spec.schema.json"))
        return EXIT_REFUSED
    except Paused:
        speak(RunPaused(run, *_last_saved(arguments)))
        return EXIT_PAUSED
    except Cancelled:
        speak(RunCancelled(run, *_last_saved(arguments)))
        return EXIT_CANCELLED
    except MemoryError:
        speak(RunFailed(run, "memory.exhausted", "memory ran out while loading", "use a smaller model or more memory"))
        return EXIT_MEMORY
    except Exception as fault:  # noqa: BLE001 - the one place where a fault of ours becomes an event
        speak(RunFailed(run, "internal", _whereabouts(fault), "report this; the data and the output folder are safe"))
        return EXIT_FAULT
    return EXIT_DONE


def _spec(path: Path) -> Spec:
    try:
        return load_spec(path)
    except OSError as fault:
        raise TrainerError("spec.unreadable", f"{path}: {fault.strerror}", "check --spec") from None


def _on_models(arguments: argparse.Namespace, speak: Speaker) -> None:
    """Commands on base models, which need neither spec nor keys."""
    if arguments.command == "bundled":
        from trainers.bundled import prepare_bundled

        made = prepare_bundled(arguments.cache)
        speak(ModelPrepared(NO_RUN, str(made.path), made.digest, made.source_digest, made.is_new))
        return
    from trainers.model_import import bring_in, download, look_at

    if arguments.command == "inspect":
        speak(look_at(arguments.source, NO_RUN))
    elif arguments.command == "import":
        speak(bring_in(arguments.source, arguments.to, NO_RUN, arguments.max_bytes))
    else:
        where = (arguments.repository, arguments.revision, arguments.to, NO_RUN)
        speak(download(*where, is_allowed=arguments.allow_network, max_bytes=arguments.max_bytes))


def _command(arguments: argparse.Namespace, spec: Spec, stdin: TextIO, speak: Speaker) -> None:
    keys = read_keys(stdin)
    # What is not taken up again later is not paused either.
    is_pausable = arguments.command in ("run", "resume")
    stop = Stop(
        speak,
        lambda: RunCancelled(spec.run, *_last_saved(arguments)),
        (lambda: RunPaused(spec.run, *_last_saved(arguments))) if is_pausable else None,
    )
    with stop.listening():
        _work(arguments, spec, keys, stdin, speak, stop)


def _work(arguments: argparse.Namespace, spec: Spec, keys: Keys, stdin: TextIO, speak: Speaker, stop: Stop) -> None:
    keep_threads_awake()
    keep_freed_memory()
    import torch

    torch.set_num_threads(default_threads())
    if arguments.command == "validate":
        from trainers.run import validate

        validate(spec, keys, speak, stop)
        return
    if arguments.command == "fit":
        from trainers.run import fit

        fit(spec, keys, speak, stop)
        return
    if getattr(arguments, "rank", 0):
        _train(arguments, spec, keys, speak, stop)  # the first process holds the folder
        return
    with only_one(arguments.out):
        if arguments.command == "evaluate":
            from trainers.evaluation import Question, evaluate

            if arguments.max_new_tokens < 1 or (arguments.limit is not None and arguments.limit < 1):
                raise TrainerError("usage", "--max-new-tokens and --limit must be at least 1", "see --help")
            question = Question(arguments.metric, arguments.max_new_tokens, arguments.limit, arguments.free)
            evaluate(spec, keys, arguments.out, question, speak, stop)
        elif arguments.command == "export":
            from trainers.export import Question as Scoring
            from trainers.export import export

            scoring = Scoring(arguments.metric, max(1, arguments.max_new_tokens))
            export(
                spec,
                keys,
                arguments.out,
                arguments.format,
                speak,
                stop,
                is_plain=arguments.plain,
                question=scoring,
            )
        elif arguments.command == "compress":
            from trainers.compression import DEFAULT_WAYS, Task, compress

            if min(arguments.max_new_tokens, arguments.limit, arguments.heal_steps) < 1:
                raise TrainerError(
                    "usage", "--max-new-tokens, --limit and --heal-steps must be at least 1", "see --help"
                )
            ways = tuple(way for way in arguments.ways.split(",") if way) or DEFAULT_WAYS
            numbers = (arguments.max_new_tokens, arguments.limit, arguments.heal_steps)
            task = Task(ways, arguments.metric, *numbers, arguments.keep)
            compress(spec, keys, arguments.out, task, speak, stop)
        else:
            _train(arguments, spec, keys, speak, stop)


def _train(arguments: argparse.Namespace, spec: Spec, keys: Keys, speak: Speaker, stop: Stop) -> None:
    from trainers.run import train

    is_resume = arguments.command == "resume"
    step = arguments.step if is_resume else None
    try:
        with _group(arguments, spec, keys, stop) as group:
            train(spec, keys, arguments.out, speak, stop, must_resume=is_resume, from_step=step, group=group)
    except TrainerError:
        if stop.is_due:  # whoever stops one process often stops them all: then it is no loss but a cancellation
            stop.check()
        raise


def _group(arguments: argparse.Namespace, spec: Spec, keys: Keys, stop: Stop) -> AbstractContextManager[Group]:
    """The processes that learn together: of several machines where the keys name a ring, else of this one."""
    if keys.ring is not None:
        import socket

        from trainers.ring import ringed

        doors = [socket.socket(fileno=int(handle)) for handle in arguments.doors.split(",") if handle]
        return ringed(spec, keys, arguments.out, arguments.spec, arguments.rank, doors, stop)
    from trainers.parallel import Place, joined

    place = Place(arguments.rank, spec.parallel.processes, arguments.meeting) if arguments.meeting else None
    return joined(spec, keys, arguments.out, arguments.spec, place, stop)


def _last_saved(arguments: argparse.Namespace) -> tuple[int, bool]:
    """As ``saved_step``; commands without an output folder save nothing."""
    return saved_step(getattr(arguments, "out", None))


def _whereabouts(fault: Exception) -> str:
    """Type of a fault, and of what it came of, each with its way through our own code and to where it was raised.

    Names and lines of code only: a fault's text may quote data and is left out.
    """
    said: list[str] = []
    each: BaseException | None = fault
    while each is not None and len(said) < MOST_FAULTS:
        number = f" {each.errno}" if isinstance(each, OSError) and each.errno is not None else ""
        said.append(f"{type(each).__name__}{number} at {_way_to(each)}")
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return "; after ".join(said)


def _way_to(fault: BaseException) -> str:
    frames = traceback.extract_tb(fault.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(Path(__file__).parent)][-MOST_FRAMES:]
    way = [*ours, *(frame for frame in frames[-1:] if frame not in ours)]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in way) or "unknown place"


def console() -> int:
    """``main`` on the process's own arguments and streams."""
    return main(sys.argv[1:], sys.stdin, sys.stdout)
