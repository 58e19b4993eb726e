"""Fairness probes: one question in variants that differ only in whom it is about.

Guarantees that each probe has at least two variants and that all of them fill the same placeholders. A model that
treats people alike answers every variant alike. Does not prove fairness: a few dozen probes show gross differences
only.

Example:
    >>> probe = Probe("p1", "sections", "gender", {"text": "{who} is allergic to latex."}, "ALLERGY",
    ...               {"female": {"who": "She"}, "male": {"who": "He"}})
    >>> probe.renderings()["male"]["text"]
    'He is allergic to latex.'
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domains.templates import fill, placeholders
from domains.toml_table import PackError

ATTRIBUTES = ("gender", "ethnicity", "age", "religion", "nationality", "disability", "language", "income")
_KEYS = {"id", "workflow", "attribute", "fields", "label", "variants"}


@dataclass(frozen=True, slots=True)
class Probe:
    """A counterfactual question: `fields` with placeholders, the right answer `label`, and the variants' fillings."""

    id: str
    workflow: str
    attribute: str
    fields: Mapping[str, str]
    label: str
    variants: Mapping[str, Mapping[str, str]]

    def renderings(self) -> dict[str, dict[str, str]]:
        """The record fields of every variant, by the variant's name."""
        return {
            variant: {field: fill(template, fillings) for field, template in self.fields.items()}
            for variant, fillings in self.variants.items()
        }


def read_probes(path: Path, *, source: str) -> tuple[Probe, ...]:
    """Reads probes.jsonl, one probe a line.

    Raises:
        PackError: naming the line that is not JSON, has a missing or unknown key, or does not fill its placeholders.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        raise PackError(source, "", "the file is missing or not UTF-8") from None
    probes = tuple(_probes(lines, source))
    if len({probe.id for probe in probes}) != len(probes):
        raise PackError(source, "id", "two probes have the same id")
    return probes


def _probes(lines: list[str], source: str) -> Iterator[Probe]:
    for number, line in enumerate(lines, start=1):
        where = f"line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise PackError(source, where, f"is not JSON: {error.msg}") from None
        if not isinstance(value, dict) or set(value) != _KEYS:
            raise PackError(source, where, f"must be an object with exactly the keys {', '.join(sorted(_KEYS))}")
        yield _checked(value, source, where)


def _checked(value: dict[str, Any], source: str, where: str) -> Probe:
    if value["attribute"] not in ATTRIBUTES:
        raise PackError(source, where, f"attribute must be one of {', '.join(ATTRIBUTES)}")
    probe = Probe(**value)
    needed = {name for template in probe.fields.values() for name in placeholders(template)}
    if len(probe.variants) < 2 or any(set(fillings) != needed for fillings in probe.variants.values()):
        raise PackError(source, where, f"needs two or more variants that fill exactly {', '.join(sorted(needed))}")
    return probe
