"""An exported model, read back out of its sealed file by a process that knows nothing else of it.

``ask`` starts that process (``python -m trainers.reading_back``); the question goes in and the answers come out through
anonymous files. Models are loaded as their users load them: a folder by transformers' own classes and its own
tokenizer, a GGUF file by llama.cpp, or by transformers where llama.cpp is not installed.

Guarantees: the process sees the sealed file's path, its key and the exam, nothing of the trained model; plaintext of
the model is in its memory only; a crash in native code, or an answer that does not come, is an error. Does not: judge.

Example:
    >>> found = ask(Sealed(path, key, context, commitment), "gguf-q8_0", exam, "cpu", stop)
    >>> found.answers.loss
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch

from compliance.vault import ObjectContext, open_reader
from trainers import llama_cpp
from trainers.errors import TrainerError
from trainers.exam import Exam, digest_of_words
from trainers.generation import answer_all
from trainers.gguf_file import load_gguf, told_of_itself
from trainers.memory_file import MemoryFile, MemoryFolder
from trainers.parity import Answers, answers
from trainers.process import Speaker, Stop, prepare_process

CHUNK_BYTES = 1 << 20
POLL_SECONDS = 0.2
#: What a merged folder is loaded by.
_CLASSES = {
    "words": "AutoModelForCausalLM",
    "labels": "AutoModelForSequenceClassification",
    "tags": "AutoModelForTokenClassification",
}
_HINT = "ship the adapter instead, or export in another form"


@dataclass(frozen=True)
class Sealed:
    """A sealed export: where it is, and what opens it."""

    path: Path
    key: bytes
    context: ObjectContext
    commitment: bytes


@dataclass(frozen=True)
class Found:
    """What the process said: answers, who read the file, and whether tokenizer and template are the trained model's."""

    answers: Answers
    reader: str
    is_cut_alike: bool
    has_template: bool

    def check_words(self) -> None:
        """Refuses a file that would read or render another text.

        Raises:
            TrainerError: ``export.parity``.
        """
        if not (self.is_cut_alike and self.has_template):
            raise TrainerError("export.parity", "the file carries another tokenizer or chat template", _HINT)


def ask(sealed: Sealed, form: str, exam: Exam, device: str, stop: Stop) -> Found:
    """The answers of an exported model, by a process of its own.

    Raises:
        TrainerError: ``export.parity``, when the file does not open, load or answer there.
        Cancelled: a signal came; the process is ended.
    """
    question = {
        "path": str(sealed.path),
        "key": sealed.key.hex(),
        "context": asdict(sealed.context),
        "commitment": sealed.commitment.hex(),
        "form": form,
        "device": device,
        "threads": torch.get_num_threads(),
        "exam": exam.to_json(),
    }
    with MemoryFile("question") as asked, MemoryFile("answers") as said:
        asked.path.write_bytes(json.dumps(question).encode())
        with asked.path.open("rb") as stdin, said.path.open("r+b") as stdout:
            process = subprocess.Popen(
                [sys.executable, "-m", "trainers.reading_back"], stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL
            )
        try:
            while process.poll() is None:
                stop.check()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        with said.path.open("rb") as source:
            return _understood(source, exam, process.returncode)


def _understood(source: BinaryIO, exam: Exam, code: int) -> Found:
    line = source.readline()
    if code or not line:
        raise TrainerError("export.parity", f"the process that reads the file back ended ({code})", _HINT)
    head = json.loads(line)
    if "problem" in head:
        raise TrainerError("export.parity", head["problem"], _HINT)
    chances = torch.frombuffer(bytearray(source.read()), dtype=torch.float32).view(len(exam.targets), head["width"])
    found = Answers(chances, torch.tensor(exam.targets), head["texts"])
    return Found(found, head["reader"], head["is_cut_alike"], head["has_template"])


def main(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Reads a question, answers it. A failure is an answer too, without the text of an exception, which may quote."""
    question = json.load(stdin)
    torch.set_num_threads(question["threads"])
    exam = Exam.from_json(question["exam"])
    try:
        found = _find(question, exam)
    except TrainerError as fault:
        stdout.write(json.dumps({"problem": str(fault)}).encode() + b"\n")
        return
    except Exception as fault:  # noqa: BLE001 - what does not load is not offered, for whatever reason
        problem = f"the written file does not load or answer ({type(fault).__name__})"
        stdout.write(json.dumps({"problem": problem}).encode() + b"\n")
        return
    head = {"width": found.answers.chances.shape[1], "texts": found.answers.texts, "reader": found.reader}
    head |= {"is_cut_alike": found.is_cut_alike, "has_template": found.has_template}
    stdout.write(json.dumps(head).encode() + b"\n")
    stdout.write(found.answers.chances.contiguous().numpy().tobytes())


def _find(question: dict[str, Any], exam: Exam) -> Found:
    context = ObjectContext(**question["context"])
    key, commitment = bytes.fromhex(question["key"]), bytes.fromhex(question["commitment"])
    stop = Stop(Speaker(io.StringIO()), _nothing)
    with Path(question["path"]).open("rb") as sealed, open_reader(sealed, key, context, commitment) as reader:
        source = io.BufferedReader(reader, CHUNK_BYTES)
        if not question["form"].startswith("gguf-"):
            return _of_folder(source, exam, question["device"], stop)
        with MemoryFile("model.gguf") as file:
            with file.path.open("wb") as sink:
                shutil.copyfileobj(source, sink, CHUNK_BYTES)
            return _of_gguf(file, exam, question["threads"], stop)


def _nothing() -> Any:
    raise AssertionError("nobody listens for signals here")


def _of_folder(source: BinaryIO, exam: Exam, device: str, stop: Stop) -> Found:
    import transformers

    with MemoryFolder() as folder:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for info in tar:
                member = tar.extractfile(info)
                assert member is not None
                with folder.add(info.name).open("wb") as sink:
                    shutil.copyfileobj(member, sink, CHUNK_BYTES)
        kind = getattr(transformers, _CLASSES[exam.kind])
        settings = {"local_files_only": True, "trust_remote_code": False}
        model = kind.from_pretrained(str(folder.path), dtype="auto", use_safetensors=True, **settings)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder.path), **settings)
        if exam.kind == "labels":
            # Its last token is asked, whether or not that is the one it pads with.
            model.config.pad_token_id = None
        found = _with_texts(answers(model.eval().to(device), exam, device, stop), model, exam)
    cut = tokenizer(exam.texts, add_special_tokens=False)["input_ids"]
    return Found(found, "transformers", cut == exam.cut, str(tokenizer.chat_template) == exam.template)


def _with_texts(found: Answers, model: Any, exam: Exam) -> Answers:
    if not exam.prompts:
        return found
    texts: list[list[int]] = [[] for _ in exam.prompts]
    for indices, answered in answer_all(model, exam.prompts, set(exam.stops), exam.max_new_tokens):
        for index, tokens in zip(indices, answered, strict=True):
            texts[index] = tokens
    return replace(found, texts=texts)


def _of_gguf(file: MemoryFile, exam: Exam, threads: int, stop: Stop) -> Found:
    if not llama_cpp.is_installed():
        vocabulary, template = told_of_itself(file.path)
        model = load_gguf(file.folder, file.name)
        found = _with_texts(answers(model, exam, "cpu", stop), model, exam)
        is_known = digest_of_words(vocabulary[: exam.vocabulary_size]) == exam.vocabulary
        return Found(found, "transformers", is_known, template == exam.template)
    llama = llama_cpp.Llama(file.path, exam.longest + 1, threads)
    chances = torch.cat([llama.tell(row, places) for row, places in zip(exam.rows, exam.places, strict=True) if places])
    texts = [llama.answer(prompt, set(exam.stops), exam.max_new_tokens) for prompt in exam.prompts]
    is_cut_alike = [llama.cut(text) for text in exam.texts] == exam.cut
    return Found(
        Answers(chances, torch.tensor(exam.targets), texts), "llama.cpp", is_cut_alike, llama.template == exam.template
    )


if __name__ == "__main__":
    prepare_process()
    with os.fdopen(os.dup(1), "wb") as said:
        os.dup2(2, 1)  # Whatever a library prints must not get between the answers.
        main(sys.stdin.buffer, said)
