"""Documents made from templates, with noise as it stands in real files.

Guarantees: the same seed gives the same documents; spans follow every change of the text exactly; a document's group is
its template, so that a split by group keeps whole templates apart.
Does not: make sense of the whole; only the surroundings of each slot are true to life.

Format of a template file: templates are parted by a line ``%%``; ``{slot}`` is filled and labelled to be masked;
``{slot:k}`` may be public where it stands, so only its kind is taught.

Example:
    >>> fill("Dear {titled},", Random(3), "greeting").spans[0][2]
    'PERSON_MASK'
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from trainers.tagger.casting import SLOTS, TITLES, Cast
from trainers.tagger.documents import Document, Span
from trainers.tagger.noise import disturbed

FOLDER = Path(__file__).with_name("templates")
# In judgments whether a court, a town or a trade singles somebody out is a question for annotators, not for a template.
_UNJUDGED = "court_judgments/"
_JOINS = 0.35
_GAPS = (" ", " ", "\n", "\n", "\n\n", "; ", "   ", " | ", "\t", ".\n")
_CLEAN = "clean_text"
_SLOT = re.compile(r"\{([a-z]+)(:k)?\}")
# Slot -> kind of the tagger.
_KIND = {
    "person": "PERSON", "first": "PERSON", "last": "PERSON", "titled": "PERSON", "city": "LOCATION",
    "region": "LOCATION", "state": "LOCATION", "country": "LOCATION", "place": "LOCATION", "address": "ADDRESS",
    "street": "ADDRESS", "zip": "ADDRESS", "company": "ORGANIZATION", "organisation": "ORGANIZATION",
    "body": "ORGANIZATION", "date": "DATE", "time": "DATE", "datetime": "DATE", "year": "DATE", "age": "AGE",
    "phone": "CONTACT", "email": "CONTACT", "url": "CONTACT", "ip": "CONTACT", "username": "CODE", "code": "CODE",
    "amount": "QUANTITY", "nationality": "DEMOGRAPHIC", "profession": "DEMOGRAPHIC", "relative": "DEMOGRAPHIC",
    "religion": "DEMOGRAPHIC", "work": "MISC", "event": "MISC",
}  # fmt: skip


def read_templates(folder: Path = FOLDER) -> dict[str, str]:
    """Name (``genre/number``) -> template.

    Raises:
        ValueError: a slot that ``casting`` does not know.
    """
    templates = {}
    for path in sorted(folder.glob("*.txt")):
        blocks = re.split(r"(?m)^%%[ \t]*$\n?", path.read_text(encoding="utf-8"))
        for number, block in enumerate((b.strip("\n") for b in blocks), 1):
            if unknown := {m[1] for m in _SLOT.finditer(block)} - SLOTS.keys():
                raise ValueError(f"{path.name}, template {number}: unknown slot {', '.join(sorted(unknown))}")
            if block.strip():
                templates[f"{path.stem}/{number}"] = block
    return templates


def fill(template: str, random: Random, group: str) -> Document:
    """One document; the slots of one template share their cast of people and towns."""
    cast = Cast(random)
    text, spans, last = "", [], 0
    for match in _SLOT.finditer(template):
        text += template[last : match.start()]
        last = match.end()
        if match[1] == "titled":
            text += f"{cast.pick(TITLES)} "
        value = cast.value(match[1])
        if text.lower().endswith("the "):
            value = value.removeprefix("the ")
        verdict = "EITHER" if match[2] or group.startswith(_UNJUDGED) else "MASK"
        spans.append((len(text), len(text) + len(value), f"{_KIND[match[1]]}_{verdict}"))
        text += value
    return Document(text + template[last:], tuple(spans), group)


def make_documents(templates: dict[str, str], count: int, seed: int) -> Iterator[Document]:
    """``count`` documents, each template about equally often, some of them joined to longer ones, some disturbed."""
    random = Random(seed)  # noqa: S311 - not a secret
    names = list(templates)
    order: list[str] = []
    for _ in range(count):
        if not order:
            order = random.sample(names, len(names))
        name = order.pop()
        document = fill(templates[name], random, name)
        # Several texts behind one another, as in files of many notes; clean lines stand among them.
        while random.random() < _JOINS:
            genre = _CLEAN if random.random() < 0.3 else name.split("/")[0]
            other = random.choice([n for n in names if n.startswith(f"{genre}/")] or names)
            document = _joined(document, fill(templates[other], random, other), random.choice(_GAPS))
        yield disturbed(document, random)


def _joined(first: Document, second: Document, gap: str) -> Document:
    offset = len(first.text) + len(gap)
    moved: list[Span] = [(s + offset, e + offset, label) for s, e, label in second.spans]
    return Document(first.text + gap + second.text, (*first.spans, *moved), first.group)
