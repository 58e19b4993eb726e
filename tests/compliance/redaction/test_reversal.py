"""The way back: only where the profile says so, only as ciphertext, only with the caller's key."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
from types import MappingProxyType

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from compliance.redaction import Finding, Profile, RedactionError, Redactor, load_profile, redact

KEY = bytes(32)


def reversible(name: str, *types: str) -> Profile:
    profile = load_profile(name)
    changed = {t: dataclasses.replace(profile.entities[t], is_reversible=True) for t in types}
    return dataclasses.replace(profile, entities=MappingProxyType({**profile.entities, **changed}))


class SubjectKey:
    """What a vault would do: AES-256-GCM under one subject's key, bound to the place of the finding."""

    def __init__(self) -> None:
        self._cipher = AESGCM(AESGCM.generate_key(256))

    def seal(self, plain: bytes, finding: Finding) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, plain, self._bound(finding))

    def unseal(self, sealed: bytes, finding: Finding) -> bytes:
        return self._cipher.decrypt(sealed[:12], sealed[12:], self._bound(finding))

    @staticmethod
    def _bound(finding: Finding) -> bytes:
        return json.dumps(finding.to_json(), sort_keys=True).encode()


TEXT = "Mr John Smith, SSN 123-45-6789, came."
SPANS = [Finding(3, 13, "PERSON", 0.9, "x"), Finding(19, 30, "SSN", 0.9, "x")]


def test_only_types_that_the_profile_names_come_back() -> None:
    subject = SubjectKey()
    profile = reversible("healthcare", "PERSON")
    made = redact(TEXT, SPANS, profile=profile, key=KEY, subject="s", seal=subject.seal)
    assert [a.sealed is not None for a in made.findings] == [True, False]
    back = made.restored(subject.unseal)
    assert back.startswith("Mr John Smith, SSN ")
    assert "123-45-6789" not in back
    assert made.text == redact(TEXT, SPANS, profile=load_profile("healthcare"), key=KEY, subject="s").text


@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=6), st.sampled_from(["PERSON", "SSN", "DATE"]))
def test_a_text_is_restored_whole_under_the_right_key_and_by_no_other(words: list[str], kind: str) -> None:
    text, spans = "", []
    for word in words:
        text += " | "
        spans.append(Finding(len(text), len(text) + len(word), kind, 0.9, "x"))
        text += word
    subject = SubjectKey()
    profile = reversible("healthcare", kind)
    made = redact(text, spans, profile=profile, key=KEY, subject="s", seal=subject.seal)
    assert made.restored(subject.unseal) == text
    with pytest.raises(InvalidTag):
        made.restored(SubjectKey().unseal)


def test_the_plain_form_carries_ciphertext_and_no_original() -> None:
    subject = SubjectKey()
    made = redact(
        TEXT, SPANS, profile=reversible("healthcare", "PERSON", "SSN"), key=KEY, subject="s", seal=subject.seal
    )
    rows = [a.to_json() for a in made.findings]
    assert [subject.unseal(base64.b64decode(str(r["sealed"])), f) for r, f in zip(rows, SPANS, strict=True)] == [
        b"John Smith",
        b"123-45-6789",
    ]
    assert "Smith" not in json.dumps(rows)
    assert (
        "sealed" not in redact(TEXT, SPANS, profile=load_profile("legal"), key=KEY, subject="s").findings[0].to_json()
    )


def test_a_reversible_profile_needs_a_sealing_function_even_for_a_text_without_findings() -> None:
    with pytest.raises(RedactionError, match="reversible"):
        redact("nothing here", [], profile=reversible("legal", "PERSON"), key=KEY, subject="s")
    with pytest.raises(RedactionError, match="reversible"):
        Redactor(reversible("legal", "PERSON"), KEY)("Mr Jan Kowalczyk came.")


def test_the_redactor_seals_for_every_text_of_a_subject() -> None:
    subject = SubjectKey()
    texts = ["Mr Jan Kowalczyk came.", "Kowalczyk left."]
    made = Redactor(reversible("legal", "PERSON"), KEY, seal=subject.seal).redact_subject(texts, "s")
    assert [each.restored(subject.unseal) for each in made] == texts


@pytest.mark.parametrize(
    "seal", [lambda plain, _: plain, lambda plain, _: b"v1:" + plain, lambda *_: b"", lambda plain, _: plain.decode()]
)
def test_a_function_that_seals_nothing_is_refused(seal: object) -> None:
    with pytest.raises(RedactionError, match="sealing function"):
        redact(TEXT, SPANS, profile=reversible("healthcare", "PERSON"), key=KEY, subject="s", seal=seal)  # type: ignore[arg-type]


def test_originals_are_not_put_into_a_text_that_they_do_not_fit() -> None:
    subject = SubjectKey()
    made = redact(TEXT, SPANS, profile=reversible("healthcare", "PERSON"), key=KEY, subject="s", seal=subject.seal)
    with pytest.raises(RedactionError, match="does not fit"):
        dataclasses.replace(made, text="short").restored(subject.unseal)
