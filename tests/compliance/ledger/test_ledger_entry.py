"""Entry bodies: canonical, small, and without a place for content."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.ledger.entry import MAX_BODY_BYTES, EntryError, build_body, parse_body

DIGEST = "sha256:" + "0" * 64
VALID = {
    "event_id": "5f0c7a3e-6d1f-4c6a-9b57-1f5b4a1f7a11",
    "time": datetime(2026, 1, 31, 23, 59, 59, 123456, UTC),
    "workspace": "w1",
    "actor": "user:3f",
    "action": "dataset.approved",
    "outcome": "done",
    "object_type": "dataset_version",
    "object_id": "8d",
    "before": None,
    "after": DIGEST,
    "facts": {"records": 1200, "is_final": True, "profile": "healthcare", "model": "HuggingFaceTB/SmolLM2-135M"},
}


def test_a_body_is_this_and_stays_this():
    assert build_body(**VALID) == (
        b'{"action":"dataset.approved","actor":"user:3f","after":"' + DIGEST.encode() + b'","before":null,'
        b'"event_id":"5f0c7a3e-6d1f-4c6a-9b57-1f5b4a1f7a11","facts":{"is_final":true,'
        b'"model":"HuggingFaceTB/SmolLM2-135M","profile":"healthcare","records":1200},"object_id":"8d",'
        b'"object_type":"dataset_version","outcome":"done","schema":"steward.ledger.entry/1",'
        b'"time":"2026-01-31T23:59:59.123456Z","workspace":"w1"}'
    )


def test_a_body_comes_back_as_what_it_says():
    entry = parse_body(build_body(**VALID))
    assert entry.event_id == UUID(VALID["event_id"])
    assert entry.time == VALID["time"]
    assert {name: getattr(entry, name) for name in VALID} | {"event_id": VALID["event_id"]} == VALID
    assert entry.body() == build_body(**VALID)


def test_time_is_written_in_utc():
    local = VALID["time"].astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert build_body(**{**VALID, "time": local}) == build_body(**VALID)
    with pytest.raises(EntryError, match="time zone"):
        build_body(**{**VALID, "time": local.replace(tzinfo=None)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event_id", "not-a-uuid"),
        ("workspace", "two words"),
        ("workspace", ""),
        ("actor", None),
        ("actor", "Jane Roe"),
        ("actor", "jane@hospital.example"),
        ("action", "approved"),
        ("action", "Dataset.approved"),
        ("action", "dataset approved"),
        ("outcome", "maybe"),
        ("object_type", "9lives"),
        ("object_id", "x" * 129),
        ("object_id", 7),
        ("before", "sha256:abc"),
        ("after", "md5:" + "0" * 32),
        ("after", DIGEST.upper()),
        ("facts", None),
        ("facts", [1]),
    ],
)
def test_a_field_of_another_form_is_refused_by_name(name, value):
    with pytest.raises(EntryError, match=name) as caught:
        build_body(**{**VALID, name: value})
    assert not isinstance(value, str) or len(value) < 9 or value not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "The patient was seen on Monday.",
        "Jane Roe",
        "jane@hospital.example",
        "123-45-6789",
        "2026-01-31",
        "",
        "line\nbreak",
        "x" * 65,
        "naïve",
        0.5,
        None,
        [1],
        {"nested": 1},
        b"bytes",
        2**53,
        "sha256:" + "0" * 63,
    ],
)
def test_facts_have_no_room_for_content(value):
    with pytest.raises(EntryError):
        build_body(**{**VALID, "facts": {"note": value}})


@pytest.mark.parametrize("value", [0, -5, True, "lora", "v1.2.3", "a/b+c-d", VALID["event_id"], DIGEST])
def test_counts_flags_tokens_and_digests_are_facts(value):
    assert parse_body(build_body(**{**VALID, "facts": {"fact": value}})).facts == {"fact": value}


@pytest.mark.parametrize("name", ["", "Free Text", "a.b", "9", "x" * 49, "naïve"])
def test_names_of_facts_are_plain(name):
    with pytest.raises(EntryError, match="name of a fact"):
        build_body(**{**VALID, "facts": {name: 1}})


def test_no_more_than_the_limit_of_facts_and_bytes():
    with pytest.raises(EntryError, match="at most 32"):
        build_body(**{**VALID, "facts": {f"fact_{number}": 1 for number in range(33)}})
    digest = "hmac:" + "f" * 64
    facts = {f"{'x' * 40}_{number}": digest for number in range(32)}
    with pytest.raises(EntryError, match=str(MAX_BODY_BYTES)):
        build_body(**{**VALID, "facts": facts})


def change(**fields):
    document = {**json.loads(build_body(**VALID)), **fields}
    return json.dumps({k: v for k, v in document.items() if v != "absent"}, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 5000,
        b" " + build_body(**VALID),
        build_body(**VALID).replace(b'"before":null', b'"before":null,"before":null'),
        build_body(**VALID).replace(b"healthcare", b"h\\u0065althcare"),
        change(schema="steward.ledger.entry/2").encode(),
        change(more=1).encode(),
        change(facts="absent").encode(),
        change(time="2026-02-31T23:59:59.123456Z").encode(),
        change(time="2026-01-31T23:59:59Z").encode(),
        change(event_id="5F0C7A3E-6D1F-4C6A-9B57-1F5B4A1F7A11").encode(),
        change(facts={"x": 1.0}).encode(),
        change(facts={"x": "free text"}).encode(),
        b'"' + b"x" * MAX_BODY_BYTES + b'"',
    ],
)
def test_only_what_build_body_makes_is_read(body):
    with pytest.raises(EntryError):
        parse_body(body)


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_nothing_else_than_an_entry_error_comes_of_garbage(body):
    with pytest.raises(EntryError):
        parse_body(body)
