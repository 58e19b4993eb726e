"""Training shards: the redacted records of a split as the method reads them, sealed for one run.

Guarantees that only approved, redacted text gets into a shard, and that neither a shredded person's records do nor any
that look privileged and were not released.
Does not tokenise; the trainer does, in its own process.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from domains.packs import load_pack
from domains.workflows import Workflow, map_record, map_rejected
from steward.datasets.models import DatasetVersion, Split
from steward.datasets.reading import OpenRedacted, RecordReader
from steward.runs.methods import Method, Records
from steward.vault.models import DataKey, SealedObject
from steward.vault.objects import ObjectWriter
from trainers.spans import Span, written

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shard:
    """A sealed split and how many records are in it."""

    split: Split
    sealed: SealedObject
    records: int


def workflow_for(domain: str, name: str) -> Workflow:
    """The named workflow of a domain pack."""
    return load_pack(domain).workflow(name)


def messages_of(payload: Payload, workflow: Workflow) -> list[dict[str, Any]]:
    """A record's payload as chat messages, by the workflow's templates where it holds fields.

    A tool's result that is held as JSON is written out, as templates take it.
    """
    if "messages" in payload:
        return [_written(message) for message in payload["messages"]]
    return [dict(message) for message in map_record(workflow, payload["fields"])]


def _written(message: Payload) -> dict[str, Any]:
    content = message["content"]
    if content is None or isinstance(content, str):
        return dict(message)
    return {**message, "content": json.dumps(content, ensure_ascii=False)}


def calls_in_words(message: Mapping[str, Any]) -> str:
    """An answer as a person reads it: what it says, and behind it each call of a tool, a line of JSON."""
    calls = [json.dumps(each["function"], ensure_ascii=False) for each in message.get("tool_calls", ())]
    return "\n".join([*([message["content"]] if message["content"] else []), *calls])


def exchange_of(payload: Payload, workflow: Workflow) -> tuple[str, str]:
    """The last question of a record and the answer expected; of a text with spans the text, and these written out."""
    if "text" in payload:
        spans = ((start, end, payload["labels"][place]) for start, end, place in payload["spans"])
        return payload["text"], written(Span(*each) for each in spans)
    *before, expected = messages_of(payload, workflow)
    questions = [message["content"] for message in before if message["role"] == "user"]
    return str(questions[-1]) if questions else "", calls_in_words(expected)


def is_set_aside(payload: Payload) -> bool:
    """Whether redaction left the record without spans that could be learnt (`datasets.labelled_spans`)."""
    return "spans" in payload and payload["spans"] is None


def rejected_of(payload: Payload, workflow: Workflow) -> str:
    """The worse answer of a preference record."""
    return str(payload["rejected"]) if "messages" in payload else map_rejected(workflow, payload["fields"])


def _with_rejected(payload: Payload, workflow: Workflow) -> Payload:
    return _as_chat(payload, workflow) | {"rejected": rejected_of(payload, workflow)}


def _as_chat(payload: Payload, workflow: Workflow) -> Payload:
    tools = {"tools": payload["tools"]} if "tools" in payload else {}
    return {"messages": messages_of(payload, workflow), **tools}


def _with_judgement(payload: Payload, workflow: Workflow) -> Payload:
    return _as_chat(payload, workflow) | {"label": payload["is_good"]}


def _with_spans(payload: Payload, workflow: Workflow) -> Payload:
    labels = payload["labels"]
    spans = [{"start": start, "end": end, "label": labels[place]} for start, end, place in payload["spans"]]
    return {"text": payload["text"], "spans": spans}


# What a line of a shard holds beside its id. A labelled record's last message is its label.
# Source: trainers.shards.
_LINES: dict[Records, Callable[[Payload, Workflow], Payload]] = {
    Records.ANSWERS: _as_chat,
    Records.PAIRS: _with_rejected,
    Records.JUDGED: _with_judgement,
    Records.LABELS: _as_chat,
    Records.SPANS: _with_spans,
}


def example_lines(version: DatasetVersion, workflow: Workflow, method: Method, split: Split) -> Iterator[bytes]:
    """Lines of a shard: `{"id", "messages"}` and what the method needs beside them, one record each; of spans the text.

    A record that redaction set aside, because two labels met in one replacement, has no line.
    """
    assert version.redaction is not None
    reader = RecordReader(version)
    records: Iterator[OpenRedacted] = reader.redacted(version.redaction, split=split, is_for_training=True)
    for record in records:
        if is_set_aside(record.payload):
            continue
        line = {"id": str(record.ordinal), **_LINES[method.records](record.payload, workflow)}
        yield json.dumps(line, ensure_ascii=False).encode() + b"\n"


def write_shard(version: DatasetVersion, workflow: Workflow, method: Method, split: Split, key: DataKey) -> Shard:
    """Seals one split under `key`. The object is not saved yet; the calling action saves it."""
    count = 0
    with ObjectWriter(version.workspace, key, f"shard-{split}", dataset=str(version.dataset_id)) as writer:
        for line in example_lines(version, workflow, method, split):
            writer.write(line)
            count += 1
    return Shard(split, writer.sealed, count)
