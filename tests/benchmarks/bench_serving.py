"""Tokens a second for 1, 4 and 16 requests at a time with four adapters on the bundled model, through the socket.

The peer is what one would write without a server: transformers' `generate` with peft, the adapter switched for each
request, one after the other, same precision and threads. The row is that of 16 at a time. Beside it are printed 1 and
4 at a time, the server with room for one row, and how the server's memory grew over the last burst.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from compliance.vault import ObjectContext, new_key, seal_writer
from trainers import events
from trainers.adapter import lay_lora
from trainers.archive import pack
from trainers.base_model import load_base, load_tokenizer
from trainers.bundled import prepare_bundled
from trainers.device import choose_device
from trainers.encoding import render
from trainers.model_folder import check_folder
from trainers.process import default_threads
from trainers.shards import Message
from trainers.spec import LoraSpec

ADAPTERS = 4
TOKENS = 48
REQUESTS = 16
PEER_REQUESTS = 8
ACCESS = "benchmark-" + "x" * 32
CONTEXT = ObjectContext(workspace="w", dataset="d", object="o", kind="adapter", version="1")
QUESTIONS = [f"Tell a story about {number} ships and the people who sailed them to the north." for number in range(16)]


def run() -> dict[str, dict[str, Any]]:
    """The row `serving`."""
    torch.set_num_threads(default_threads())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = prepare_bundled(root / "models").path
        key = new_key()
        archives = make_adapters(model)
        for number, archive in enumerate(archives):
            with (root / f"{number}.sealed").open("wb") as sink, seal_writer(sink, key, CONTEXT) as writer:
                writer.write(archive)
        theirs = peer(model, archives, root)
        single = ours(model, root, key, (REQUESTS,), "--rows", "1")[REQUESTS][0]
        found = ours(model, root, key, (1, 4, REQUESTS, REQUESTS))
    for many in (1, 4, REQUESTS):
        print(f"    {many:2} at a time: {found[many][0]:6.1f} tokens/s, {found[many][0] / theirs:.1f} times the peer's")
    print(f"    one row only:  {single:6.1f} tokens/s")
    print(f"    memory of the server grew by {found[0][0]:.1f} MiB from one burst of {REQUESTS} to the next")
    return {
        "serving": {
            "figure": found[REQUESTS][0],
            "unit": "tokens/s, 16 at a time",
            "peer": "transformers generate + peft, one by one",
            "peer_figure": theirs,
            "ratio": found[REQUESTS][0] / theirs,
            "runs": 1,
        }
    }


def make_adapters(folder: Path) -> list[bytes]:
    """Random low-rank adapters of rank 16 on all layers, as runs ship them."""
    judged = check_folder(folder)
    tokenizer = load_tokenizer(judged)
    made = []
    for seed in range(ADAPTERS):
        adapter = lay_lora(load_base(judged, choose_device("auto")), LoraSpec(rank=16, alpha=32), seed)
        noise = torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(seed))
        made.append(pack(adapter, adapter.weights + 0.002 * noise, judged, "card", tokenizer))
    return made


def peer(folder: Path, archives: list[bytes], root: Path) -> float:
    """Tokens a second of transformers and peft."""
    import io
    import tarfile

    from peft import PeftModel

    judged = check_folder(folder)
    tokenizer = load_tokenizer(judged)
    model: Any = load_base(judged, choose_device("auto"))
    for number, archive in enumerate(archives):
        place = root / f"adapter-{number}"
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(place, filter="data")
        if number:
            model.load_adapter(str(place), adapter_name=str(number), autocast_adapter_dtype=False)
        else:
            model = PeftModel.from_pretrained(model, str(place), adapter_name="0", autocast_adapter_dtype=False)
    # Otherwise peft computes in fp32, and that would measure precision instead of serving.
    model.to(choose_device("auto").dtype)
    model.eval()
    count, began = 0, 0.0
    for index in range(PEER_REQUESTS + 1):
        if index == 1:  # the first one warms up
            count, began = 0, time.perf_counter()
        model.set_adapter(str(index % ADAPTERS))
        text = render(tokenizer, [Message("user", QUESTIONS[index])], is_prompt=True)
        tokens = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            made = model.generate(
                input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=TOKENS, do_sample=False
            )
        count += made.shape[1] - tokens.shape[1]
    return count / (time.perf_counter() - began)


def ours(folder: Path, root: Path, key: bytes, bursts: tuple[int, ...], *more: str) -> dict[int, tuple[float, int]]:
    """Tokens a second by how many ask at a time, and under 0 by how many MiB memory grew over the last burst."""
    path = str(root / "s")
    command = [sys.executable, "-m", "trainers", "serve", "--model", str(folder), "--socket", path, *more]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdin.write(json.dumps({"access": ACCESS}) + "\n")
        for number in range(ADAPTERS):
            order = {"name": str(number), "path": str(root / f"{number}.sealed"), "key": key.hex()}
            server.stdin.write(json.dumps({"add": {**order, "context": CONTEXT.to_json()}}) + "\n")
        server.stdin.flush()
        for _ in range(ADAPTERS + 1):
            said = events.decode(server.stdout.readline())
            if isinstance(said, events.RunFailed) or (isinstance(said, events.ServeAdapter) and said.state != "ready"):
                raise SystemExit(f"the server refused: {said}")
        burst(path, 4)
        process, found, before = psutil.Process(server.pid), {}, 0
        for many in bursts:
            before = process.memory_info().rss
            found[many] = burst(path, many)
        found[0] = ((process.memory_info().rss - before) / (1 << 20), 0)
        return found
    finally:
        with contextlib.suppress(OSError):
            server.stdin.close()
        server.wait(60)
        server.stdout.close()


def burst(path: str, many: int) -> tuple[float, int]:
    """Tokens a second, and tokens, of so many requests at a time."""
    counts = [0] * many

    def ask(index: int) -> None:
        request = {"messages": [{"role": "user", "content": QUESTIONS[index]}], "adapter": str(index % ADAPTERS)}
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(json.dumps({"access": ACCESS, "max_tokens": TOKENS, **request}).encode() + b"\n")
            with client.makefile("rb") as replies:
                last = [json.loads(line) for line in replies][-1]
        counts[index] = last["completion_tokens"]

    began = time.perf_counter()
    askers = [threading.Thread(target=ask, args=(index,)) for index in range(many)]
    for each in askers:
        each.start()
    for each in askers:
        each.join()
    return sum(counts) / (time.perf_counter() - began), sum(counts)
