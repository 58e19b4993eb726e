"""The `pairs` generator: a clause, a hypothesis about it, and whether one follows from the other.

Guarantees balanced labels in each group, and that the hypothesis alone says nothing about the label: every hypothesis
is used with clauses that support it, oppose it, and speak of something else. Does not reason: what supports and
opposes a hypothesis is what the phrase file's author filed under it.

A phrase file:

    [labels]
    supports = "Entailment"
    opposes = "Contradiction"
    unrelated = "Neutral"
    [frames]
    train = ["{clause}"]
    test = ["Section 4. {clause}"]
    [topics.return]
    hypothesis = { train = ["Copies must be returned."], test = ["The recipient has to give copies back."] }
    supports = { train = ["...shall return all copies."], test = ["..."] }
    opposes = { train = ["...may keep all copies."], test = ["..."] }

Example:
    >>> from domains.packs import load_pack
    >>> from domains.synthetic import generate
    >>> sorted(next(generate(load_pack("legal"), "nda_entailment", seed=1, count=1)))
    ['clause', 'group', 'hypothesis', 'id', 'label', 'subject', 'template']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from domains.synthetic.people import make_circumstances
from domains.synthetic.source import (
    Deck,
    MadeRecord,
    Slots,
    phrase_table,
    read_slots,
    read_split_texts,
    template_group,
)
from domains.toml_table import TomlTable

STANCES = ("supports", "opposes")


@dataclass(frozen=True, slots=True)
class Topic:
    """A statement and the clauses that support or oppose it, each by part (`train`, `test`)."""

    hypothesis: Mapping[str, tuple[str, ...]]
    clauses: Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(slots=True)
class Pairs:
    """A loaded phrase file. Holds the order of labels still to come, so one instance serves one stream."""

    labels: Mapping[str, str]
    frames: Mapping[str, tuple[str, ...]]
    topics: Mapping[str, Topic]
    slots: Slots
    _decks: dict[str, Deck] = field(default_factory=dict)

    def make(self, source: Random, group: str, person: Mapping[str, str]) -> MadeRecord:
        """One record: `clause`, `hypothesis` and `label`."""
        part = template_group(group)
        relation, name = self._decks.setdefault(group, Deck(self._combinations())).draw(source)
        about = name if relation != "unrelated" else source.choice([other for other in self.topics if other != name])
        stance = relation if relation in STANCES else source.choice(STANCES)
        clauses = self.topics[about].clauses[stance][part]
        hypotheses = self.topics[name].hypothesis[part]
        numbers = [source.randrange(len(texts)) for texts in (self.frames[part], clauses, hypotheses)]
        bound = {**person, **make_circumstances(source, person)}
        bound["clause"] = self.slots.fill(clauses[numbers[1]], source, bound)
        clause = self.slots.fill(self.frames[part][numbers[0]], source, bound)
        hypothesis = self.slots.fill(hypotheses[numbers[2]], source, bound)
        template = f"{part}.{numbers[0]:02d}.{about}.{stance}.{numbers[1]:02d}.{name}.{numbers[2]:02d}"
        fields = {"clause": clause, "hypothesis": hypothesis, "label": self.labels[relation]}
        return MadeRecord(template, fields, bound)

    def _combinations(self) -> list[tuple[str, str]]:
        return [(relation, name) for relation in self.labels for name in self.topics]


def load_pairs(path: Path) -> Pairs:
    """Reads a phrase file.

    Raises:
        PackError: a key is missing or unknown, a slot does not exist, or a template serves both train and test.
    """
    table = phrase_table(path)
    slots = read_slots(table)
    labels_table = table.table("labels")
    labels = {relation: labels_table.text(relation) for relation in (*STANCES, "unrelated")}
    labels_table.finish()
    frames = read_split_texts(table.table("frames"), slots, ("clause",))
    topics_table = table.table("topics")
    topics = {name: _read_topic(topics_table.table(name), slots) for name in topics_table.names()}
    if len(topics) < 2:
        raise table.error("topics", "needs at least two topics: an unrelated clause must come from another one")
    table.finish()
    return Pairs(labels, frames, topics, slots)


def _read_topic(table: TomlTable, slots: Slots) -> Topic:
    topic = Topic(
        hypothesis=read_split_texts(table.table("hypothesis"), slots),
        clauses={stance: read_split_texts(table.table(stance), slots) for stance in STANCES},
    )
    table.finish()
    return topic
