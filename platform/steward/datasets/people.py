"""The records of a version, person by person, for work that has to see all of a person's records together.

Guarantees that every readable record comes exactly once, that a batch holds all the records of each of its people, or
else a part of one person's who has more than fit into one, and that memory does not grow with the version or with a
person: what is sorted are numbers of rows. The order is that in which people were first met, and the file's within a
person; it is the same every time, so that work can go on behind the last batch.

Example:
    for batch in PeopleReader(version, 200).batches(after=(0, 0)):
        ...
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from operator import itemgetter

from django.db.models import Q

from steward.datasets.models import DatasetVersion, Record
from steward.datasets.reading import OpenRecord, RecordReader

CHUNK_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to work on together: all those of some people or, with `crowded`, a part of that one person's."""

    records: list[OpenRecord]
    crowded: int | None = None


class PeopleReader:
    """Reads a version's records by person, at most `size` to a batch."""

    def __init__(self, version: DatasetVersion, size: int) -> None:
        self._rows = Record.objects.filter(version=version)
        self._reader = RecordReader(version)
        self._size = size

    def batches(self, after: tuple[int, int]) -> Iterator[Batch]:
        """Batches behind the record given by its person and ordinal; (0, 0) for all.

        A person of whom something was read before has more records than fit into a batch: parts of theirs only are
        ever left over.
        """
        person, ordinal = after
        left = self._rows.filter(Q(subject_id__gt=person) | Q(subject_id=person, ordinal__gt=ordinal))
        keys = left.order_by("subject_id", "ordinal").values_list("subject_id", "pk").iterator(chunk_size=CHUNK_KEYS)
        whole: list[int] = []
        for subject_id, own in groupby(keys, itemgetter(0)):
            first = list(islice((key for _, key in own), self._size + 1))
            is_crowded = len(first) > self._size or subject_id == person
            if whole and (is_crowded or len(whole) + len(first) > self._size):
                yield from self._opened(whole)
                whole = []
            if is_crowded:
                rest = chain(first, (key for _, key in own))
                yield from self._parts(rest, subject_id)
            else:
                whole += first
        yield from self._opened(whole)

    def all_of(self, person: int) -> Iterator[Batch]:
        """Every record of one person, in parts."""
        keys = self._rows.filter(subject_id=person).order_by("ordinal").values_list("pk", flat=True)
        yield from self._parts(keys.iterator(chunk_size=CHUNK_KEYS), person)

    def _parts(self, keys: Iterable[int], person: int) -> Iterator[Batch]:
        keys = iter(keys)
        while part := list(islice(keys, self._size)):
            yield from self._opened(part, person)

    def _opened(self, keys: list[int], crowded: int | None = None) -> Iterator[Batch]:
        if records := list(self._reader.raw_rows(keys)):
            yield Batch(records, crowded)
