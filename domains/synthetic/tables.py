"""The `tables` generator: a small table and a question whose answer is one of its cells.

Guarantees that the answer stands in the table exactly once, so that a question has one right answer and copying any
other cell is wrong. Does not ask for arithmetic.

A phrase file:

    [table]
    rows = ["Revenue", "Net income"]
    columns = ["2023 | 2024"]    # one set of column names each
    row_count = 2                # rows shown
    least = 10                   # smallest and largest figure
    most = 99
    decimals = 1                 # digits after the point
    [frames]
    train = ["{table}\\n{question}"]
    test = ["{question}\\n{table}"]
    [questions]
    train = ["What was {row} in {column}?"]
    test = ["Give the figure for {row}, {column}."]

Example:
    >>> from domains.packs import load_pack
    >>> from domains.synthetic import generate
    >>> record = next(generate(load_pack("finance"), "statement_lookup", seed=1, count=1))
    >>> record["text"].count(record["answer"])
    1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from domains.synthetic.people import make_circumstances
from domains.synthetic.source import MadeRecord, Slots, phrase_table, read_slots, read_split_texts, template_group


@dataclass(frozen=True, slots=True)
class Tables:
    """A loaded phrase file."""

    rows: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    row_count: int
    least: int
    most: int
    decimals: int
    frames: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, tuple[str, ...]]
    slots: Slots

    def make(self, source: Random, group: str, person: Mapping[str, str]) -> MadeRecord:
        """One record: `text` (table and question) and `answer`."""
        part = template_group(group)
        frame, question = (source.randrange(len(texts[part])) for texts in (self.frames, self.questions))
        for _ in range(100):
            bound = {**person, **make_circumstances(source, person)}
            answer = self._draw(source, bound)
            bound["question"] = self.slots.fill(self.questions[part][question], source, bound)
            text = self.slots.fill(self.frames[part][frame], source, bound)
            # An account number or a date may contain the figure by chance; then the answer would not be unique.
            if text.count(answer) == 1:
                return MadeRecord(f"{part}.{frame:02d}.{question:02d}", {"text": text, "answer": answer}, bound)
        raise ValueError("the phrase file leaves too few figures to choose from; widen least and most")

    def _draw(self, source: Random, bound: dict[str, str]) -> str:
        columns = source.choice(self.columns)
        rows = source.sample(self.rows, self.row_count)
        scale = 10**self.decimals
        values = source.sample(range(self.least * scale, self.most * scale), len(rows) * len(columns))
        figures = [f"{value / scale:,.{self.decimals}f}" for value in values]
        cells = {name: figures[at * len(columns) : (at + 1) * len(columns)] for at, name in enumerate(rows)}
        lines = [" | ".join(("", *columns)).strip(), *(" | ".join((name, *cells[name])) for name in rows)]
        row, column = source.choice(rows), source.randrange(len(columns))
        bound.update(table="\n".join(lines), row=row, column=columns[column])
        return cells[row][column]


def load_tables(path: Path) -> Tables:
    """Reads a phrase file.

    Raises:
        PackError: a key is missing or unknown, a slot does not exist, or a template serves both train and test.
    """
    file = phrase_table(path)
    slots = read_slots(file)
    table = file.table("table")
    columns = tuple(tuple(name.strip() for name in names.split("|")) for names in table.texts("columns"))
    rows = table.texts("rows")
    least = table.integer("least", least=1)
    loaded = Tables(
        rows=rows,
        columns=columns,
        row_count=table.integer("row_count", least=2, most=len(rows)),
        least=least,
        most=table.integer("most", least=least + 20),
        decimals=table.integer("decimals", 0, most=3),
        frames=read_split_texts(file.table("frames"), slots, ("table", "question")),
        questions=read_split_texts(file.table("questions"), slots, ("row", "column")),
        slots=slots,
    )
    table.finish()
    file.finish()
    return loaded
