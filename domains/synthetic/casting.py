"""Who the records of a synthetic set are about, and which part of the set each person belongs to.

Guarantees that a person keeps one group, and that the groups' shares are met to within one person's records at every
point of the stream. Does not make records.

Example:
    >>> from random import Random
    >>> sum(group == "train" for _, group, _ in cast_subjects(Random(3), 100)) in range(66, 75)
    True
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from domains.synthetic.people import make_person

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
RECORDS_PER_SUBJECT = (1, 2, 2, 3, 3, 4)


def cast_subjects(source: Random, count: int) -> Iterator[tuple[str, str, dict[str, str]]]:
    """For each of `count` records: the subject's id, the group and the person's identifiers."""
    made = dict.fromkeys(SHARES, 0)
    total = subject = 0
    while total < count:
        group = max(SHARES, key=lambda name: SHARES[name] * (total + 1) - made[name])
        subject += 1
        person = make_person(source)
        for _ in range(min(source.choice(RECORDS_PER_SUBJECT), count - total)):
            made[group] += 1
            total += 1
            yield f"s{subject:06d}", group, person
