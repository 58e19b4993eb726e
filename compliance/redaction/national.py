"""National identity and tax numbers with check digits, by Presidio's own recognisers.

Guarantees: only recognisers from ``SUPPORTED`` run, only near a token with four digits or more, and only results
whose check digit
holds (or whose form alone is certain) count. Presidio itself skips a pattern that takes a minute; here that is an
error.
Does not: load Presidio before the first such token; no network is used by these recognisers. Loading it takes seconds
and brings
spaCy (and torch, where that is installed) into the process, so the shipped profiles name none; a site that needs one
adds it.

Example:
    >>> [f.type for f in NationalNumbers(("PlPeselRecognizer",)).find("PESEL 44051401359", bytearray(17), float("inf"))]
    ['NATIONAL_ID']
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from compliance.redaction.errors import RedactionError
from compliance.redaction.finding import Finding

SUPPORTED = {
    "AuMedicareRecognizer": "HEALTH_PLAN",
    "AuTfnRecognizer": "TAX_ID",
    "CaSinRecognizer": "NATIONAL_ID",
    "EsNieRecognizer": "NATIONAL_ID",
    "EsNifRecognizer": "NATIONAL_ID",
    "FiPersonalIdentityCodeRecognizer": "NATIONAL_ID",
    "InAadhaarRecognizer": "NATIONAL_ID",
    "ItFiscalCodeRecognizer": "TAX_ID",
    "KrRrnRecognizer": "NATIONAL_ID",
    "PlPeselRecognizer": "NATIONAL_ID",
    "SePersonnummerRecognizer": "NATIONAL_ID",
    "SgFinRecognizer": "NATIONAL_ID",
    "ThTninRecognizer": "NATIONAL_ID",
    "TrNationalIdRecognizer": "NATIONAL_ID",
    "ZaIdNumberRecognizer": "NATIONAL_ID",
}
_TOKEN = re.compile(r"(?<!\w)(?=(?:[^\s\d]{0,8}\d){4})[A-Za-z0-9][A-Za-z0-9/.-]{6,24}(?: \d{2,6}){0,4}(?!\w)")
_MARGIN = 12
_LEAST_SCORE = 0.6
_MAX_SECONDS = 5.0


class NationalNumbers:
    """The recognisers of a profile."""

    def __init__(self, names: Sequence[str]) -> None:
        """Args:
            names: keys of ``SUPPORTED``.

        Raises:
            RedactionError: a name is not supported.
        """
        if unknown := [name for name in names if name not in SUPPORTED]:
            raise RedactionError(f"unknown recogniser {unknown[0]!r}; supported: {', '.join(sorted(SUPPORTED))}")
        self._names = tuple(names)

    @cached_property
    def _recognisers(self) -> list[tuple[str, Any]]:
        with warnings.catch_warnings():
            # Third-party deprecations at import time are none of the caller's business.
            warnings.simplefilter("ignore")
            from presidio_analyzer import predefined_recognizers
        return [(name, getattr(predefined_recognizers, name)()) for name in self._names]

    def find(self, text: str, covered: bytearray, deadline: float) -> Iterator[Finding]:
        """Yield numbers in a folded view that nothing else has explained.

        Args:
            text: the view.
            covered: one byte for each character, non-zero where a finding stands.
            deadline: ``time.monotonic()`` value after which the document is given up.

        Raises:
            RedactionError: the deadline has passed, or one window took so long that Presidio may have skipped a
            pattern.
        """
        if not self._names:
            return
        for match in _TOKEN.finditer(text):
            if all(covered[match.start() : match.end()]):
                continue
            recognisers = self._recognisers
            start, end = max(0, match.start() - _MARGIN), min(len(text), match.end() + _MARGIN)
            began = time.monotonic()
            if began > deadline:
                raise RedactionError("time budget spent in the national numbers; the document is not redacted")
            for name, recogniser in recognisers:
                for result in recogniser.analyze(text[start:end], recogniser.supported_entities, None):
                    if result.score >= _LEAST_SCORE:
                        yield Finding(
                            start + result.start,
                            start + result.end,
                            SUPPORTED[name],
                            min(result.score, 0.9),
                            f"presidio.{name}",
                        )
            if time.monotonic() - began > _MAX_SECONDS:
                raise RedactionError("a national number recogniser took too long; the document is not redacted")
