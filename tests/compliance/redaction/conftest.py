"""Detectors that the redaction tests share: loading the tagger once keeps the whole folder quick."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from compliance.redaction import Detector, Finding, load_profile


@pytest.fixture(scope="session")
def detectors() -> dict[str, Detector]:
    return {name: Detector(load_profile(name)) for name in ("healthcare", "finance", "legal")}


@pytest.fixture(scope="session")
def found(detectors: dict[str, Detector]) -> Callable[[str, str], dict[str, str]]:
    """Text of each finding -> its type."""

    def find(profile: str, text: str) -> dict[str, str]:
        return {text[f.start : f.end]: f.type for f in detectors[profile].detect(text)}

    return find


def spans(text: str, findings: list[Finding]) -> list[str]:
    return [text[f.start : f.end] for f in findings]
