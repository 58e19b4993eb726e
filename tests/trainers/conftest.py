"""A tiny Llama with a byte tokenizer, sealed shards and a way to run the command line inside this process."""

import io
import json
import os
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from compliance.vault import ObjectContext, new_key, open_reader, seal_writer
from trainers import events
from trainers.cli import main
from trainers.process import QUIET

os.environ.update(QUIET)

TEMPLATE = (
    "{% for m in messages %}{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
SECRET = "Zyxwv Quokkason"


def make_tokenizer(folder, more=()):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Merges of bytes that no text of ours holds: llama.cpp reads no tokenizer without any, transformers none with one.
    rare = [(letters[-4], letters[-3]), (letters[-2], letters[-1])]
    words = ["<|start|>", "<|end|>", *letters, *("".join(pair) for pair in rare), *more]
    vocabulary = {token: index for index, token in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, rare))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|start|>")
    fast.pad_token = fast.eos_token
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return len(vocabulary)


def make_model(folder, kind="llama", more=(), **changes):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    size = make_tokenizer(folder, more)
    settings = {
        "vocab_size": size,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(settings | changes)))
    with torch.no_grad():
        for each in model.parameters():
            each.add_(torch.randn_like(each) * 0.05)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("tiny"))


def records(count, seed=0, name="r"):
    """Sums of two digits as questions; every prompt holds a name that must never be found on disk."""
    source = random.Random(seed)
    made = []
    for index in range(count):
        filler = "x" * source.randrange(40)
        digit = source.randrange(10)
        turns = [
            {"role": "user", "content": f"{SECRET} {filler} has {digit}?"},
            {"role": "assistant", "content": "yes" if digit > 4 else "no"},
        ]
        made.append({"id": f"{name}{index}", "messages": turns})
    return made


class Workbench:
    """Seals shards, writes specs and runs commands; keys are made anew for each."""

    def __init__(self, root, model):
        self.root, self.model = root, model
        self.out = root / "out"
        self.data_key, self.output_key = new_key(), new_key()
        self.shards = {}

    def seal(self, name, lines):
        context = ObjectContext(workspace="w", dataset="d", object=name, kind="shard", version="1")
        path = self.root / f"{name}.sealed"
        with path.open("wb") as sink, seal_writer(sink, self.data_key, context) as writer:
            for line in lines:
                writer.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        self.shards[name] = {"path": str(path), "context": context.to_json(), "commitment": writer.commitment.hex()}

    def spec(self, **changes):
        document = {
            "schema": "steward.train/1",
            "run": "run-1",
            "model": {"path": str(self.model)},
            "data": self.shards,
            "output": {"context": self.context("adapter").to_json()},
            "lora": {"rank": 4, "alpha": 8},
            "optimiser": {"learning_rate": 0.02},
            "batch_tokens": 400,
            "precision": "fp32",
            **changes,
        }
        path = self.root / "spec.json"
        path.write_text(json.dumps(document))
        return path

    def context(self, kind):
        return ObjectContext(workspace="w", dataset="d", object="o", kind=kind, version="1")

    @property
    def key_line(self):
        return json.dumps({"data_key": self.data_key.hex(), "output_key": self.output_key.hex()}) + "\n"

    def command(self, name, *more, on_event=None, stdin=None):
        """Exit code and events of a command run in this process."""
        stream = Listener(on_event)
        argv = [name, "--spec", str(self.root / "spec.json"), *more]
        if name not in ("validate", "fit"):
            argv += ["--out", str(self.out)]
        code = main(argv, io.StringIO(self.key_line) if stdin is None else stdin, stream)
        return code, stream.events

    def opened(self, name, kind):
        with (self.out / name).open("rb") as source:
            return open_reader(source, self.output_key, self.context(kind)).readall()


class Listener(io.StringIO):
    """A stdout that understands what it is told."""

    def __init__(self, on_event=None):
        super().__init__()
        self.events = []
        self.on_event = on_event

    def write(self, text):
        for line in text.splitlines():
            self.events.append(events.decode(line))
            if self.on_event:
                self.on_event(self.events[-1])
        return len(text)


@pytest.fixture
def bench(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Workbench(tmp_path, tiny_model)
    made.seal("train", records(24, seed=1))
    made.seal("validation", records(6, seed=2, name="v"))
    made.seal("test", records(8, seed=3, name="t"))
    return made


def of(kind, said):
    return [event for event in said if isinstance(event, kind)]


def files_holding(folder, needle):
    """Files below a folder that hold a text in clear."""
    return [str(path) for path in Path(folder).rglob("*") if path.is_file() and needle in path.read_bytes()]


@pytest.fixture(scope="session")
def kit():
    """The functions above, for tests."""
    return SimpleNamespace(
        secret=SECRET, records=records, make_model=make_model, of=of, files_holding=files_holding, template=TEMPLATE
    )
