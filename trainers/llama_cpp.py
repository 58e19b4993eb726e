"""llama.cpp, through the wheel ``cyllama``: making K-quants, and asking a GGUF file what it answers.

Guarantees: a file lies in memory only (``/proc/self/fd``); quantising runs in a process of its own, so that an abort in
native code ends as an error of ours and not as silence. Does not: use an accelerator, nor sample.

Example:
    >>> quantise(source, target, "q4_k_m")
    >>> Llama(target.path, window=1024, threads=2).tell([1, 2, 3], [2])
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.errors import TrainerError
from trainers.memory_file import MemoryFile

#: llama.cpp's numbers for whole-file forms. Source: ``include/llama.h``, ``enum llama_ftype``.
FILE_TYPES = {"q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
QUANTISE_SECONDS = 3600
BATCH_TOKENS = 512


def is_installed() -> bool:
    """Whether the extra ``quantise`` is there, without loading it."""
    return importlib.util.find_spec("cyllama") is not None


def quantise(source: MemoryFile, target: MemoryFile, kind: str) -> None:
    """Writes ``source`` (GGUF, F16) as ``kind`` into ``target``.

    Raises:
        TrainerError: ``export.quantise``, when llama.cpp is not installed or refuses the file.
    """
    if not is_installed():
        raise TrainerError("export.quantise", "llama.cpp is not installed", "pip install 'steward[quantise]'")
    handles = (int(source.name), int(target.name))
    command = [sys.executable, "-m", "trainers.llama_cpp", kind, *map(str, handles)]
    done = subprocess.run(
        command, pass_fds=handles, stdin=subprocess.DEVNULL, capture_output=True, timeout=QUANTISE_SECONDS, check=False
    )
    if done.returncode:
        raise TrainerError(
            "export.quantise", f"llama.cpp did not quantise the file (exit {done.returncode})", "export as gguf-q8_0"
        )


def _quantise_here(kind: str, source: int, target: int) -> None:
    from cyllama.llama import llama_cpp

    llama_cpp.disable_logging()
    settings = llama_cpp.LlamaModelQuantizeParams()
    settings.ftype = FILE_TYPES[kind]
    settings.nthread = max(1, torch.get_num_threads())
    llama_cpp.model_quantize(f"/proc/self/fd/{source}", f"/proc/self/fd/{target}", settings)


class Llama:
    """A GGUF file, loaded by llama.cpp on the CPU. ``window`` is in tokens."""

    def __init__(self, path: Path, window: int, threads: int) -> None:
        from cyllama.llama import llama_cpp

        class Model(llama_cpp.LlamaModel):  # type: ignore[misc, unused-ignore]
            """With what its context looks for and cyllama 0.2.18 forgot."""

            @property
            def n_vocab(self) -> int:
                return int(self.get_vocab().n_vocab)

        llama_cpp.disable_logging()
        self._parts = llama_cpp
        settings = llama_cpp.LlamaModelParams()
        settings.n_gpu_layers = 0
        self._model = Model(str(path), settings, verbose=False)
        context = llama_cpp.LlamaContextParams()
        context.n_ctx = window
        context.n_batch = context.n_ubatch = BATCH_TOKENS
        context.n_threads = context.n_threads_batch = threads
        self._context = llama_cpp.LlamaContext(self._model, context, verbose=False)
        self._vocabulary = self._model.get_vocab()

    @property
    def template(self) -> str:
        """The chat template that the file carries."""
        return str(self._model.get_default_chat_template())

    def cut(self, text: str) -> list[int]:
        """The text as tokens, special ones recognised and none added."""
        return list(self._vocabulary.tokenize(text, False, True))

    def tell(self, tokens: list[int], places: list[int]) -> Tensor:
        """(len(places), V) fp32 log-probabilities of the token at each place, given those before it."""
        wanted = {place - 1 for place in places}
        rows = []
        self._context.kv_cache_clear()
        for begin in range(0, max(wanted) + 1, BATCH_TOKENS):
            piece = tokens[begin : min(begin + BATCH_TOKENS, max(wanted) + 1)]
            self._read(piece, begin, wanted)
            rows += [self._logits(at) for at in range(len(piece)) if begin + at in wanted]
        return torch.log_softmax(torch.stack(rows), -1)

    def answer(self, prompt: list[int], stops: set[int], max_new_tokens: int) -> list[int]:
        """The greedy answer, without the token that ends it."""
        self._context.kv_cache_clear()
        last = len(prompt) - 1
        for begin in range(0, len(prompt), BATCH_TOKENS):
            piece = prompt[begin : begin + BATCH_TOKENS]
            self._read(piece, begin, {last})
        answer: list[int] = []
        at = last % BATCH_TOKENS
        while len(answer) < max_new_tokens:
            token = int(self._logits(at).argmax())
            if token in stops:
                break
            answer.append(token)
            self._read([token], last + len(answer), {last + len(answer)})
            at = 0
        return answer

    def _read(self, piece: list[int], begin: int, wanted: set[int]) -> None:
        batch = self._parts.LlamaBatch(n_tokens=len(piece), embd=0, n_seq_max=1)
        for at, token in enumerate(piece):
            batch.add(token, begin + at, [0], begin + at in wanted)
        self._context.decode(batch)

    def _logits(self, at: int) -> Tensor:
        found: Any = self._context.get_logits_ith(at)
        return torch.tensor(found, dtype=torch.float32)


if __name__ == "__main__":
    _quantise_here(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
