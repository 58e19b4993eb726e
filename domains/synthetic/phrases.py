"""The `phrases` generator: a sentence that carries the label, set in a frame that does not.

Guarantees that frames are chosen without regard to the label, so that only the content tells it, and that labels are
balanced within each group. Noise (fillers, typing errors, lower case) touches the content's own words, never an
identifier or an answer. Does not check that a phrase is true to its label: that is the author's care.

A phrase file:

    [noise]
    filler = 0.2        # chance of a filler word before the content
    typo = 0.1          # chance of one typing error
    lower = 0.1         # chance of all lower case
    fillers = ["um, "]
    [answer]            # optional: the field `answer`, from the slots of the same record; {code} is the label
    text = "{drug}; {dose}"
    [frames]
    train = ["Doctor: {question}\\nPatient: {content}"]
    test = ["{content} (call back: {phone})"]
    [contents.Allergy]
    train = ["{drug} gives me hives"]
    test = ["I cannot take {drug}"]
    [slots]
    drug = ["penicillin"]

Example:
    >>> from domains.packs import load_pack
    >>> from domains.synthetic import generate
    >>> records = list(generate(load_pack("healthcare"), "visit_sections", seed=1, count=80))
    >>> len({record["label"] for record in records})
    8
"""

from __future__ import annotations

import re
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

_WORD = re.compile(r"(?<![{\w])[a-z]{4,}(?![\w}])")


@dataclass(frozen=True, slots=True)
class Noise:
    """Chances in [0, 1] of each kind of noise, and the filler words."""

    filler: float
    typo: float
    lower: float
    fillers: tuple[str, ...]

    def apply(self, template: str, source: Random) -> str:
        """The content template with noise on its own words; placeholders stay as they are."""
        if source.random() < self.typo:
            template = _mistype(template, source)
        if source.random() < self.lower:
            template = template.lower()
        if self.fillers and source.random() < self.filler:
            template = source.choice(self.fillers) + template
        return template


def _mistype(template: str, source: Random) -> str:
    words = list(_WORD.finditer(template))
    if not words:
        return template
    word = source.choice(words)
    at = word.start() + source.randrange(1, len(word.group()) - 2)
    swapped = template[at + 1] + template[at]
    return template[:at] + source.choice((swapped, template[at])) + template[at + 2 :]


@dataclass(slots=True)
class Phrases:
    """A loaded phrase file. Holds the order of labels still to come, so one instance serves one stream."""

    frames: Mapping[str, tuple[str, ...]]
    contents: Mapping[str, Mapping[str, tuple[str, ...]]]
    answer: str | None
    noise: Noise
    slots: Slots
    _decks: dict[str, Deck] = field(default_factory=dict)

    def make(self, source: Random, group: str, person: Mapping[str, str]) -> MadeRecord:
        """One record: `text` and `label`, or `text` and `answer` where the file has an answer."""
        part = template_group(group)
        label = self._decks.setdefault(group, Deck(self.contents)).draw(source)
        frame_number = source.randrange(len(self.frames[part]))
        content_number = source.randrange(len(self.contents[label][part]))
        bound = {**person, **make_circumstances(source, person), "code": label}
        content = self.noise.apply(self.contents[label][part][content_number], source)
        bound["content"] = _sentence(self.slots.fill(content, source, bound), source, self.noise.lower)
        fields = {"text": self.slots.fill(self.frames[part][frame_number], source, bound)}
        if self.answer is None:
            fields["label"] = label
        else:
            fields["answer"] = self.slots.fill(self.answer, source, bound)
        template = f"{part}.{frame_number:02d}.{label.lower().replace(' ', '_')}.{content_number:02d}"
        return MadeRecord(template, fields, bound)


def _sentence(content: str, source: Random, lower: float) -> str:
    if source.random() < lower:
        return content
    return content[0].upper() + content[1:] + ("" if content[-1] in ".?!" else ".")


def load_phrases(path: Path) -> Phrases:
    """Reads a phrase file.

    Raises:
        PackError: a key is missing or unknown, a slot does not exist, or a template serves both train and test.
    """
    table = phrase_table(path)
    slots = read_slots(table)
    frames = read_split_texts(table.table("frames"), slots, ("content",))
    contents_table = table.table("contents")
    contents = {label: read_split_texts(contents_table.table(label), slots) for label in contents_table.names()}
    answer_table = table.optional_table("answer")
    answer = None
    if answer_table is not None:
        answer = answer_table.text("text")
        slots.check(answer_table, "text", answer, ("code",))
        answer_table.finish()
    noise = _read_noise(table.table("noise"))
    table.finish()
    return Phrases(frames, contents, answer, noise, slots)


def _read_noise(table: TomlTable) -> Noise:
    noise = Noise(
        filler=table.number("filler", 0.0, least=0.0, most=1.0),
        typo=table.number("typo", 0.0, least=0.0, most=1.0),
        lower=table.number("lower", 0.0, least=0.0, most=1.0),
        fillers=table.texts("fillers", ()),
    )
    table.finish()
    return noise
