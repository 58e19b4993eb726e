"""How far a combination of columns singles people out: k-anonymity, l-diversity, maximum and average risk.

Guarantees: exact counts over the records given, in one pass, with memory that grows with the number of distinct
combinations only (their values are kept as digests). The risks are those of an attacker who knows that a person is in
the data (the prosecutor's): 1 / size of the class.
Does not: judge which columns an outsider may know, or look into free text.

Source: L. Sweeney, International Journal of Uncertainty, Fuzziness and Knowledge-Based Systems 10 (2002), pages
557-570 (k); A. Machanavajjhala et al., ACM TKDD 1 (2007) (distinct l); K. El Emam, Guide to the De-Identification of
Personal Health Information (2013) (risk). That fewer than 11 make a small cell is the CMS cell size suppression
policy; a maximum risk of 0.09 follows from it. 45 CFR 164.514(b)(1) asks an expert for a very small risk.

Example:
    >>> found = singling_out([(("50-59", "F"), "flu"), (("50-59", "F"), "asthma"), (("60-69", "M"), "flu")])
    >>> found.k, found.l, found.max_risk, found.unique
    (1, 1, 1.0, 1)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

SMALL_CELL = 11
MAX_RISK = 0.09


@dataclass(frozen=True, slots=True)
class SinglingOut:
    """What was counted. A class is the set of records that agree in all the columns.

    Attributes:
        k: records in the smallest class; 0 without records.
        l: distinct sensitive values in the class with the fewest.
        unique: records that are alone in their class.
        small_cells: classes of fewer than ``SMALL_CELL`` records, and the records in them.
        records_over_risk: records whose own risk is above ``MAX_RISK``.
    """

    records: int
    classes: int
    k: int
    l: int  # noqa: E741 - the measure's own name
    unique: int
    small_cells: int
    records_in_small_cells: int
    records_over_risk: int

    @property
    def max_risk(self) -> float:
        """Risk of the record that is easiest to find, in [0, 1]."""
        return 1 / self.k if self.k else 0.0

    @property
    def average_risk(self) -> float:
        """Mean over the records of 1 / size of their class."""
        return self.classes / self.records if self.records else 0.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a profile allows of the figures above; None where it sets no limit.

    Attributes:
        k_min: least records in the smallest class.
        l_min: least distinct sensitive values in a class.
        max_risk: most of the highest risk, in (0, 1].
        average_risk: most of the average risk, in (0, 1].
        small_cells: most classes of fewer than ``SMALL_CELL`` records.
    """

    k_min: int | None = None
    l_min: int | None = None
    max_risk: float | None = None
    average_risk: float | None = None
    small_cells: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether anything is limited at all."""
        return self != Limits()

    def exceeded(self, *, k: int, l: int | None, max_risk: float, average_risk: float, small_cells: int) -> list[str]:  # noqa: E741
        """What is beyond a limit, one sentence each.

        Args:
            k, max_risk, average_risk, small_cells: as in ``SinglingOut``.
            l: as there, None where no sensitive column was measured.
        """
        found = []
        if self.k_min is not None and k < self.k_min:
            found.append(f"the smallest class has {k} records, and {self.k_min} are asked for")
        if self.l_min is not None and l is not None and l < self.l_min:
            found.append(f"a class has {l} distinct sensitive values, and {self.l_min} are asked for")
        if self.max_risk is not None and max_risk > self.max_risk:
            found.append(f"the highest risk is {max_risk:.3f}, and {self.max_risk:g} is allowed")
        if self.average_risk is not None and average_risk > self.average_risk:
            found.append(f"the average risk is {average_risk:.3f}, and {self.average_risk:g} is allowed")
        if self.small_cells is not None and small_cells > self.small_cells:
            found.append(
                f"{small_cells} classes have fewer than {SMALL_CELL} records, and {self.small_cells} are allowed"
            )
        return found


def singling_out(rows: Iterable[tuple[Sequence[str], str]]) -> SinglingOut:
    """Count the classes of equal quasi-identifiers.

    Args:
        rows: for each record the values of the quasi-identifiers and the sensitive value, compared exactly but for
            blanks around them and case.
    """
    sizes: dict[bytes, int] = {}
    values: dict[bytes, set[bytes]] = {}
    for quasi, sensitive in rows:
        key = _digest(*quasi)
        sizes[key] = sizes.get(key, 0) + 1
        values.setdefault(key, set()).add(_digest(sensitive))
    small = [size for size in sizes.values() if size < SMALL_CELL]
    return SinglingOut(
        records=sum(sizes.values()),
        classes=len(sizes),
        k=min(sizes.values(), default=0),
        l=min((len(each) for each in values.values()), default=0),
        unique=sum(size == 1 for size in sizes.values()),
        small_cells=len(small),
        records_in_small_cells=sum(small),
        records_over_risk=sum(size for size in sizes.values() if 1 / size > MAX_RISK),
    )


def _digest(*values: str) -> bytes:
    digest = blake2b(digest_size=12)
    for value in values:
        plain = value.strip().casefold().encode("utf-8", "surrogatepass")
        digest.update(len(plain).to_bytes(8, "big") + plain)
    return digest.digest()
