"""The people that synthetic records are about.

Guarantees that one person's name, birth date, numbers and addresses stay the same in all of their records, and that
the same seed makes the same people. Names are drawn from lists of common names, so a combination may be somebody's by
chance; all numbers and addresses are from `domains.synthetic.identifiers` or made-up streets.

Example:
    >>> from random import Random
    >>> person = make_person(Random(1))
    >>> person["name"].endswith(person["last"])
    True
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from random import Random

from domains.synthetic import identifiers
from domains.toml_table import read_toml

GAZETTEER = Path(__file__).with_name("gazetteer.toml")
# Spelt out rather than by strftime, whose month names follow the machine's locale.
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
REFERENCE_DATE = datetime.date(2025, 6, 30)
"""Ages are as of this day, so that a set does not change with the calendar."""

PERSON_SLOTS = (
    "first",
    "last",
    "name",
    "titled",
    "dob",
    "age",
    "mrn",
    "member_id",
    "ssn",
    "phone",
    "email",
    "street",
    "city",
    "address",
    "account",
    "card",
    "iban",
    "routing",
    "employer",
)
RECORD_SLOTS = ("date", "month_year", "clinician", "relative", "other_name", "case_no", "docket", "amount", "reference")


@cache
def gazetteer() -> Mapping[str, tuple[str, ...]]:
    """The shared lists of names, towns, streets and companies."""
    table = read_toml(GAZETTEER)
    lists = {key: table.texts(key) for key in table.names()}
    table.finish()
    return lists


def make_person(source: Random) -> dict[str, str]:
    """The values of `PERSON_SLOTS` for a new person."""
    lists = gazetteer()
    is_woman = source.random() < 0.5
    first = source.choice(lists["women" if is_woman else "men"])
    last = source.choice(lists["last_names"])
    title = source.choice(("Ms.", "Mrs.")) if is_woman else "Mr."
    born = REFERENCE_DATE - datetime.timedelta(days=source.randint(18 * 365, 96 * 365))
    city = source.choice(lists["cities"])
    street = f"{source.randint(2, 9899)} {source.choice(lists['streets'])}"
    return {
        "first": first,
        "last": last,
        "name": f"{first} {last}",
        "titled": f"{title} {last}",
        "dob": spell_date(born, source),
        "age": str((REFERENCE_DATE - born).days * 4 // 1461),
        "mrn": identifiers.numbered(source, "", 8),
        "member_id": identifiers.numbered(source, source.choice(("XQH", "ZTM", "QHP")), 9),
        "ssn": identifiers.social_security(source),
        "phone": identifiers.telephone(source),
        "email": email_address(first, last, source),
        "street": street,
        "city": city,
        "address": f"{street}, {city} {identifiers.postcode(source)}",
        "account": identifiers.numbered(source, "", source.choice((10, 12))),
        "card": identifiers.payment_card(source),
        "iban": identifiers.iban(source),
        "routing": identifiers.routing(source),
        "employer": make_company(source),
    }


def make_circumstances(source: Random, person: Mapping[str, str]) -> dict[str, str]:
    """The values of `RECORD_SLOTS` for one record about a person: dates, other people, case numbers, amounts."""
    lists = gazetteer()
    day = REFERENCE_DATE - datetime.timedelta(days=source.randint(3, 900))
    names = lists["women"] + lists["men"]
    year = day.year % 100
    return {
        "date": spell_date(day, source),
        "month_year": f"{MONTHS[day.month - 1]} {day.year}",
        "clinician": f"Dr. {source.choice(lists['last_names'])}",
        "relative": f"{source.choice(names)} {person['last']}",
        "other_name": f"{source.choice(names)} {source.choice(lists['last_names'])}",
        "case_no": f"{source.randint(1, 9)}:{year:02d}-cv-{source.randint(100, 9899):05d}",
        "docket": f"{source.choice(('CL', 'CV', 'DR', 'PR'))}-{day.year}-{source.randint(1000, 98999):06d}",
        "amount": f"${source.choice((1, 100)) * source.randint(12, 480):,}.{source.randint(0, 99):02d}",
        "reference": identifiers.numbered(source, source.choice(("REF-", "TRX", "#")), 8),
    }


def make_company(source: Random) -> str:
    """A made-up company name."""
    lists = gazetteer()
    return f"{source.choice(lists['company_stems'])} {source.choice(lists['company_kinds'])}"


def email_address(first: str, last: str, source: Random) -> str:
    """An address at a documentation domain, from the person's name."""
    plain_first, plain_last = (_plain(part) for part in (first, last))
    local = source.choice(
        (f"{plain_first}.{plain_last}", f"{plain_first[0]}{plain_last}", f"{plain_first}{plain_last[0]}")
    )
    return f"{local}{source.choice(('', str(source.randint(2, 99))))}@example.{source.choice(('com', 'org', 'net'))}"


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isascii() and character.isalpha()) or "x"


def spell_date(day: datetime.date, source: Random) -> str:
    """A date in one of five usual spellings."""
    month = MONTHS[day.month - 1]
    return source.choice(
        (
            f"{day.month:02d}/{day.day:02d}/{day.year}",
            f"{day.month}/{day.day}/{day.year % 100:02d}",
            day.isoformat(),
            f"{month} {day.day}, {day.year}",
            f"{day.day} {month[:3]} {day.year}",
        )
    )
