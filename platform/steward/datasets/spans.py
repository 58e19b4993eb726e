"""A reviewer's corrections: spans of the redacted text, told in terms of the raw record, sealed under its subject.

Guarantees that a span fits the text it was marked in, and that one which touches a replacement takes the whole finding
with it. Holds no text: the offsets point into the record, which is shredded with its subject.

Example:
    >>> raw_span([{"start": 0, "end": 11, "replacement_start": 0, "replacement_end": 8}], 13, 17)
    (16, 20)
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compliance.redaction.profile import ENTITY_TYPES
from compliance.vault import RecordCipher
from steward.audit.actor import Refused
from steward.datasets.models import DatasetVersion, Reading, Record, SampleItem, SpanFault, SpanLabel
from steward.datasets.reading import OpenRedacted, RecordReader
from steward.datasets.texts import slots

MAX_SPANS = 200


@dataclass(frozen=True, slots=True)
class MarkedSpan:
    """What a reviewer marked: in which text of the record (from 0), from where to where in the redacted text, as what.

    An over-masked span is given by the replacement's place; its type is the one it was taken for.
    """

    fault: SpanFault
    slot: int
    start: int
    end: int
    entity_type: str


def parse_spans(given: Any) -> list[MarkedSpan]:
    """Spans from a door's plain data: `[{"fault", "slot", "start", "end", "type"}]`.

    Raises:
        Refused: not of this form, or of an unknown type.
    """
    if not isinstance(given, list) or len(given) > MAX_SPANS:
        raise Refused(f"Mark at most {MAX_SPANS} spans in a record.", code="spans_invalid")
    spans = []
    for each in given:
        numbers = [each.get(name) for name in ("slot", "start", "end")] if isinstance(each, dict) else []
        if not numbers or any(type(number) is not int or not 0 <= number < 2**31 for number in numbers):
            raise Refused("A span needs a text, a start and an end, in characters.", code="spans_invalid")
        if each.get("type") not in ENTITY_TYPES or each.get("fault") not in SpanFault.values:
            raise Refused("Say of each marked span what type of identifier it is.", code="type_unknown")
        spans.append(MarkedSpan(SpanFault(each["fault"]), *numbers, each["type"]))  # type: ignore[misc]
    return spans


def raw_span(findings: Sequence[Mapping[str, Any]], start: int, end: int) -> tuple[int, int]:
    """The stretch of the raw text that the redacted text's `start` to `end` stands for."""
    ordered = sorted(findings, key=lambda each: int(each["replacement_start"]))
    return _to_raw(ordered, start, is_end=False), _to_raw(ordered, end, is_end=True)


def _to_raw(ordered: Sequence[Mapping[str, Any]], position: int, *, is_end: bool) -> int:
    shift = 0
    for found in ordered:
        begin, stop = found["replacement_start"], found["replacement_end"]
        if not is_end and begin <= position < stop:
            return int(found["start"])
        if is_end and begin < position <= stop:
            return int(found["end"])
        if stop <= position:
            shift = found["end"] - stop
    return position + shift


class SpanSealer:
    """Checks and seals the spans of one reading. Opens the redacted record once; must run inside an action."""

    def __init__(self, item: SampleItem) -> None:
        self._item = item
        reader = RecordReader(item.run.version)
        opened = next(reader.redacted(item.run, ordinals=[item.redacted.ordinal]), None)
        if opened is None:
            raise Refused("The person of this record was erased; it cannot be read again.", code="shredded")
        self._opened: OpenRedacted = opened
        subject = item.redacted.record.subject
        self._cipher: RecordCipher = reader.cipher(bytes(subject.digest), bytes(subject.wrapped))

    def seal(self, reading: Reading, spans: Sequence[MarkedSpan]) -> list[SpanLabel]:
        """Unsaved labels. Raises Refused for a span that does not fit the record."""
        return [self._label(reading, span) for span in spans]

    def _label(self, reading: Reading, span: MarkedSpan) -> SpanLabel:
        texts = slots(self._opened.payload)
        if span.slot >= len(texts) or not span.start < span.end <= len(texts[span.slot]):
            raise Refused("A marked span does not fit the record. Nothing was kept.", code="span_misplaced")
        findings = self._opened.findings[span.slot]
        kind = span.entity_type
        if span.fault == SpanFault.OVERMASKED:
            place = (span.start, span.end)
            hit = next((f for f in findings if (f["replacement_start"], f["replacement_end"]) == place), None)
            if hit is None:
                raise Refused("Only a masked span can be over-masked. Nothing was kept.", code="span_misplaced")
            kind = hit["type"]
        start, end = raw_span(findings, span.start, span.end)
        label = SpanLabel(
            id=uuid.uuid4(),
            workspace_id=self._item.workspace_id,
            reading=reading,
            redacted=self._item.redacted,
            fault=span.fault,
            entity_type=kind,
        )
        plain = json.dumps({"slot": span.slot, "start": start, "end": end}).encode()
        label.ciphertext = self._cipher.encrypt(plain, _context(label.pk))
        return label


def open_phrase(label: SpanLabel, version: DatasetVersion) -> str:
    """The raw text behind a label, for an action that needs it.

    Raises:
        Refused: the record's person was erased.
    """
    try:
        raw = RecordReader(version).raw_one(label.redacted.ordinal)
    except Record.DoesNotExist:
        raise Refused("The person of this record was erased; it cannot be read again.", code="shredded") from None
    place = json.loads(raw.cipher.decrypt(bytes(label.ciphertext), _context(label.pk)))
    return slots(raw.payload)[place["slot"]][place["start"] : place["end"]]


def _context(label_id: uuid.UUID) -> bytes:
    return f"span-label/{label_id}".encode()
