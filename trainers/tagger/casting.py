# ruff: noqa: E501 - the forms of one thing are read in one piece
"""Values for the slots of a template: people, places, organisations, dates and numbers of one made-up text.

Guarantees: the same random state gives the same values; the same person, town or company stays the same within one
text. Numbers are made up; names are drawn from lists of common names, so a combination may be somebody's by chance.
Does not: check digits; identifiers with check digits are the rules' business, the tagger learns their surroundings.

Example:
    >>> Cast(Random(1)).value("age").isdigit()
    True
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from random import Random
from typing import Any

from trainers.tagger import words

# Locales of Faker in Latin script; English ones more often, as in the texts that have to be read.
_LOCALES = (
    ("en_US", 12), ("en_GB", 6), ("en_AU", 2), ("en_IN", 2), ("de_DE", 3), ("fr_FR", 3), ("pl_PL", 3), ("tr_TR", 2),
    ("es_ES", 3), ("es_MX", 2), ("it_IT", 2), ("sv_SE", 2), ("nl_NL", 2), ("da_DK", 2), ("no_NO", 2), ("fi_FI", 2),
    ("hu_HU", 2), ("cs_CZ", 2), ("sk_SK", 1), ("hr_HR", 2), ("sl_SI", 1), ("ro_RO", 2), ("pt_BR", 2), ("pt_PT", 1),
    ("lt_LT", 1), ("lv_LV", 1), ("et_EE", 1), ("vi_VN", 1),
)  # fmt: skip


@cache
def _maker(locale: str) -> Any:
    from faker import Faker

    return Faker(locale)


class Cast:
    """Who and what one text is about.

    Args:
        random: decides everything.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        names, weights = zip(*_LOCALES, strict=True)
        self._locales = random.choices(names, weights, k=3)
        for locale in self._locales:
            _maker(locale).seed_instance(random.getrandbits(32))
        self._people: list[tuple[str, str]] = []

    def value(self, slot: str) -> str:
        """One value for the slot; see ``SLOTS`` for the names."""
        return " ".join(SLOTS[slot](self).split(" ")).strip()

    @property
    def maker(self) -> Any:
        """A Faker of one of the text's first two locales; names of the third marry into them."""
        return _maker(self.random.choice(self._locales[:2]))

    def pick(self, options: tuple[str, ...]) -> str:
        """One of the options."""
        return self.random.choice(options)

    def digits(self, count: int) -> str:
        """``count`` random digits."""
        return "".join(self.random.choices("0123456789", k=count))

    def chance(self, share: float) -> bool:
        """True in ``share`` of the cases."""
        return self.random.random() < share

    def names(self) -> tuple[str, str]:
        """First and last name; half the time of somebody the text has named before."""
        if self._people and self.chance(0.45):
            return self.random.choice(self._people)
        maker = self.maker
        first, last = maker.first_name(), maker.last_name()
        if self.chance(0.25):
            # Surnames of one country beside first names of another, as in life.
            last = _maker(self._locales[2]).last_name()
        if self.chance(0.06):
            last = f"{last}-{maker.last_name()}"
        if self.chance(0.2):
            first, last = _plain(first), _plain(last)
        self._people.append((first, last))
        return first, last


def _plain(text: str) -> str:
    """Without accents, as many systems keep names."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _person(cast: Cast) -> str:
    first, last = cast.names()
    initial = cast.random.choice("ABCDEFGHJKLMNPRSTVW")
    return cast.random.choices(
        [
            f"{first} {last}", f"{first} {initial}. {last}", f"{first} {initial} {last}", f"{last}, {first}",
            f"{first[0]}. {last}", f"{first[0]}.{initial}. {last}", f"{last} {first}", f"{first} {last} Jr.",
            f"{first}", f"{last}", f"{first} {cast.maker.first_name()} {last}", f"{last} {first[0]}",
            f"{last}, {first} {initial}.", f"{first} {cast.pick(('van', 'de', 'von', 'del', 'El', 'bin', 'Mc'))} {last}",
        ],
        [30, 6, 4, 5, 5, 2, 2, 1, 6, 4, 2, 1, 2, 1],
    )[0]  # fmt: skip


def _titled(cast: Cast) -> str:
    first, last = cast.names()
    return cast.pick((last, last, f"{first} {last}", f"{first[0]}. {last}"))


def _company(cast: Cast) -> str:
    stem = cast.random.choices(
        [
            cast.maker.company(), cast.maker.last_name(), _invented(cast), f"{_invented(cast)} {cast.pick(words.FIELDS)}",
            f"{cast.maker.last_name()} & {cast.maker.last_name()}", f"{cast.maker.last_name()}-{cast.maker.last_name()}",
            f"{cast.pick(words.ADJECTIVES)} {cast.pick(words.FIELDS)}", _acronym(cast),
            f"{cast.maker.last_name()} {cast.pick(words.FIELDS)}", f"{cast.pick(words.NOUNS)} {cast.pick(words.FIELDS)}",
            f"{cast.maker.last_name()}, {cast.maker.last_name()} and {cast.maker.last_name()}",
            f"{cast.pick(words.NOUNS)}{cast.pick(words.NOUNS).lower()}", f"{cast.maker.city()} {cast.pick(words.FIELDS)}",
        ],
        [14, 4, 14, 10, 6, 6, 8, 6, 8, 6, 3, 8, 3],
    )[0]  # fmt: skip
    return stem if cast.chance(0.45) else f"{stem}{cast.pick(words.COMPANY_FORMS)}"


def _invented(cast: Cast) -> str:
    count = cast.random.choice((2, 2, 3))
    word = "".join(cast.pick(words.ONSETS) + cast.pick(words.VOWELS) for _ in range(count)) + cast.pick(words.CODAS)
    return word.capitalize() if cast.chance(0.9) else word.upper()


def _acronym(cast: Cast) -> str:
    return "".join(cast.random.choices("ABCDEFGHIKLMNOPRSTUVZ", k=cast.random.choice((2, 3, 3, 3, 4, 4, 5))))


def _organisation(cast: Cast) -> str:
    town, last = cast.maker.city(), cast.maker.last_name()
    form = cast.pick(words.ORGANISATIONS)
    return form.format(
        town=town, last=last, first=cast.maker.first_name(), subject=cast.pick(words.SUBJECTS), noun=cast.pick(words.NOUNS),
        saint=cast.pick(words.SAINTS), acronym=_acronym(cast), invented=_invented(cast), adjective=cast.pick(words.ADJECTIVES),
    )  # fmt: skip


def _body(cast: Cast) -> str:
    town = cast.maker.city()
    return cast.pick(words.BODIES).format(town=town, region=_region(cast), invented=_invented(cast))


def _region(cast: Cast) -> str:
    name = cast.pick((cast.maker.city(), _invented(cast), cast.maker.last_name()))
    return cast.pick(words.REGIONS).format(name=name)


def _place(cast: Cast) -> str:
    return cast.pick(words.PLACES).format(
        last=cast.maker.last_name(), town=cast.maker.city(), invented=_invented(cast), noun=cast.pick(words.NOUNS)
    )


def _city(cast: Cast) -> str:
    if cast.chance(0.25):
        return cast.pick(words.WORLD_CITIES)
    city: str = cast.maker.city()
    return city.upper() if cast.chance(0.08) else city


def _street(cast: Cast) -> str:
    street: str = cast.maker.street_address()
    if cast.chance(0.15):
        street = f"{cast.digits(cast.random.choice((2, 3, 4, 5))).lstrip('0') or '7'} {street}"
    if cast.chance(0.25):
        street += (
            cast.pick((", ", " ", "\n", "\n ")) + cast.pick(words.UNITS) + cast.digits(cast.random.choice((1, 2, 3)))
        )
    if cast.chance(0.08):
        street = f"the corner of {cast.maker.street_name()} and {cast.maker.street_name()}"
    return street


def _address(cast: Cast) -> str:
    if cast.chance(0.4):
        address: str = cast.maker.address()
        return address if cast.chance(0.6) else address.replace("\n", ", ")
    gap = cast.pick((", ", ", ", "\n", "\n ", " "))
    parts = [_street(cast), _city(cast)]
    if cast.chance(0.4):
        parts.append(cast.pick(words.STATE_CODES))
    parts.append(_zip(cast))
    if cast.chance(0.3):
        parts.append(cast.pick(words.COUNTRIES))
    if cast.chance(0.2):
        parts[-1], parts[-2] = parts[-2], parts[-1]
    return gap.join(parts)


def _zip(cast: Cast) -> str:
    if cast.chance(0.3):
        code: str = cast.maker.postcode()
        return code
    return cast.pick(
        (cast.digits(5), cast.digits(5), f"{cast.digits(5)}-{cast.digits(4)}", cast.digits(4), cast.digits(6))
    )


def _date(cast: Cast) -> str:
    r = cast.random
    day, month, year = r.randint(1, 28), r.randint(1, 12), r.randint(1930, 2026)
    name = words.MONTHS[month - 1]
    short = name[:3]
    weekday = cast.pick(words.WEEKDAYS)
    return r.choices(
        [
            f"{day} {name} {year}", f"{name} {day}, {year}", f"{month:02}/{day:02}/{year}", f"{year}-{month:02}-{day:02}",
            f"{day:02}.{month:02}.{year}", f"{month}/{day}/{year % 100:02}", f"{day} {short} {year}", f"{short} {day}",
            f"{name} {day}{_ordinal(day)}", f"{day} {name}", f"{name} {year}", f"{day:02}-{short}-{year}", weekday,
            f"{weekday}, {name} {day}, {year}", f"the {day}{_ordinal(day)} of {name}", f"{month}/{day}",
            f"{day} and {min(day + 3, 28)} {name} {year}", f"{year}{month:02}{day:02}", f"{short}. {day}, {year}",
        ],
        [12, 12, 8, 8, 4, 5, 4, 4, 5, 5, 6, 3, 5, 3, 3, 2, 2, 1, 2],
    )[0]  # fmt: skip


def _ordinal(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _time(cast: Cast) -> str:
    hour, minute = cast.random.randint(0, 23), cast.random.randint(0, 59)
    return cast.pick(
        (f"{hour:02}:{minute:02}", f"{hour % 12 + 1}:{minute:02} {cast.pick(('am', 'pm', 'a.m.', 'p.m.', 'AM', 'PM'))}",
         f"{hour % 12 + 1} {cast.pick(('am', 'pm', 'p.m.'))}", f"{hour:02}:{minute:02}:{cast.random.randint(0, 59):02}")
    )  # fmt: skip


def _code(cast: Cast) -> str:
    form = cast.pick(words.CODE_FORMS)
    letter = "ABCDEFGHJKLMNPRSTUVWXYZ"
    return "".join(
        cast.random.choice("0123456789") if c == "#" else cast.random.choice(letter) if c == "@" else c for c in form
    )


def _amount(cast: Cast) -> str:
    whole = cast.random.choice(
        (cast.random.randint(20, 999), cast.random.randint(1000, 99_999), cast.random.randint(10**5, 10**9))
    )
    number = cast.pick((f"{whole:,}", f"{whole:,}", f"{whole:,}.{cast.digits(2)}", f"{whole}"))
    return cast.random.choices(
        [
            f"{cast.pick(words.CURRENCY_CODES)} {number}", f"{cast.pick(('$', '€', '£'))}{number}",
            f"{number} {cast.pick(words.CURRENCIES)}", f"{number} {cast.pick(words.CURRENCIES)} ({cast.pick(words.CURRENCY_CODES)})",
            f"{cast.pick(words.NUMBERS)} {cast.pick(words.COUNTED)}", f"{cast.random.randint(2, 98)}%",
            f"{cast.random.randint(3, 900)} {cast.pick(words.MEASURES)}",
        ],
        [8, 5, 5, 2, 4, 2, 2],
    )[0]  # fmt: skip


def _phone(cast: Cast) -> str:
    form = cast.pick(words.PHONE_FORMS)
    return cast.maker.phone_number() if cast.chance(0.4) else "".join(cast.digits(1) if c == "#" else c for c in form)


def _email(cast: Cast) -> str:
    first, last = (_plain(name).lower().replace(" ", "") for name in cast.names())
    local = cast.pick((f"{first}.{last}", f"{first[0]}{last}", f"{last}{cast.digits(2)}", f"{first}_{last}", first))
    return f"{local}@{cast.pick(words.MAIL_HOSTS)}"


def _url(cast: Cast) -> str:
    first, last = (_plain(name).lower().replace(" ", "") for name in cast.names())
    host = f"{cast.pick((last, _invented(cast).lower(), first + last))}.{cast.pick(words.DOMAINS)}"
    return cast.pick((f"https://www.{host}/", f"http://{host}", f"www.{host}", f"https://{host}/{first}-{last}", host))


def _username(cast: Cast) -> str:
    first, last = (_plain(name).lower().replace(" ", "") for name in cast.names())
    return cast.pick((f"{first}{last}{cast.digits(2)}", f"{first[0]}{last}", f"@{first}_{last}", f"{last}.{first[0]}"))


def _profession(cast: Cast) -> str:
    job = cast.pick(words.PROFESSIONS) if cast.chance(0.75) else cast.maker.job().split(",")[0].lower()
    return str(job)


SLOTS: Mapping[str, Callable[[Cast], str]] = {
    "person": _person,
    "first": lambda cast: cast.names()[0],
    "last": lambda cast: cast.names()[1],
    "titled": _titled,
    "city": _city,
    "region": _region,
    "state": lambda cast: cast.pick(words.STATES),
    "country": lambda cast: cast.pick(words.COUNTRIES),
    "place": _place,
    "address": _address,
    "street": _street,
    "zip": _zip,
    "company": _company,
    "organisation": _organisation,
    "body": _body,
    "date": _date,
    "time": _time,
    "datetime": lambda cast: f"{_date(cast)}{cast.pick((' ', ' at ', ', '))}{_time(cast)}",
    "year": lambda cast: str(cast.random.randint(1925, 2026)),
    "age": lambda cast: str(cast.random.choice((cast.random.randint(1, 99), cast.random.randint(18, 89)))),
    "phone": _phone,
    "email": _email,
    "url": _url,
    "ip": lambda cast: ".".join(str(cast.random.randint(1, 254)) for _ in range(4)),
    "username": _username,
    "code": _code,
    "amount": _amount,
    "nationality": lambda cast: cast.pick(words.NATIONALITIES if cast.chance(0.95) else words.PEOPLES),
    "profession": _profession,
    "relative": lambda cast: cast.pick(words.RELATIVES),
    "religion": lambda cast: cast.pick(words.RELIGIONS),
    "work": lambda cast: cast.pick(words.WORKS).format(noun=cast.pick(words.NOUNS), town=cast.maker.city(), adjective=cast.pick(words.ADJECTIVES)),
    "event": lambda cast: cast.pick(words.EVENTS).format(noun=cast.pick(words.NOUNS), town=cast.maker.city()),
}  # fmt: skip

TITLES = ("Mr", "Mrs", "Ms", "Mr.", "Mrs.", "Ms.", "Dr", "Dr.", "Miss", "Prof.", "Sir", "Judge", "Sgt.", "Rev.")
