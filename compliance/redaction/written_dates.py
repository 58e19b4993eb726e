# ruff: noqa: E501 - a pattern is read in one piece
"""Dates as people write them: read, shifted by days, written back in the same form.

Guarantees: a shifted date keeps its form (order, separators, month name or number, leading zeros, digits of the year, weekday), in
ranges and lists too; two full dates keep their distance to the day, dates without a year theirs in a year of 365 days, months and
years without a day theirs in months and years. The span is read to its end: where any word or figure in it is not understood the answer
is None, and the caller must not leave the original. A time of day is dropped.
Does not: know months of other languages than English, nor whether 3/4 is in March or April: it is, unless told or written with dots,
in March, as in the US.

Example:
    >>> shift("3 May 2001", 30), shift("05/03/2001", 30), shift("3-5 May", 28), shift("sometime", 30)
    ('2 June 2001', '06/02/2001', '31 May-2 June', None)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from compliance.redaction import date_parts as part
from compliance.redaction.quantities import spelled_year

_NEXT = r"\s?(?:-|–|,\s?and|,|and|to|or|until|through|/|&)\s?(?:the\s)?"
_GLUE = re.compile(
    r"\s+|[,;()]|[-–—/&]|(?:to|and|or|through|thru|until|till|from|between|on|the|of|in|since|by|during|dated?|early|mid|late)(?!\w)",
    re.I,
)
_ZONE = r"(?:\s?(?:Z|UTC|GMT|[A-Z]{1,3}[SD]?T|[+-]\d\d:?\d\d)(?!\w))?"
_TIME = re.compile(
    rf"(?:T|:|,?\s(?:at|@|around|about)\s|,?\s)?(?:\d{{1,2}}[:.h]\d\d(?:[:.]\d\d(?:\.\d{{1,6}})?)?(?:\s?(?:[ap]\.?\s?m(?!\w)\.?|hrs|hours|o'clock|h\b))?|\d{{1,2}}\s?(?:[ap]\.?m(?!\w)\.?|o'clock)){_ZONE}(?![\w:])",
    re.I,
)
_WEEKDAY = re.compile(
    r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|tues?|wed|thur?s?|fri|sat|sun)\b\.?)(?!\w)", re.I
)
_UNPADDED = re.compile(r"(?<!\d)\d[-/.]|[-/.]\d(?!\d)")
_FOUR = re.compile(r"(?<!\d)(?:18|19|20)\d\d(?!\d)")

_NUMERIC = (
    re.compile(r"(?P<y>(?:18|19|20)\d\d)(?P<s1>[-/.])(?P<b>\d{1,2})(?P<s2>[-/.])(?P<c>\d{1,2})(?!\d)"),
    re.compile(r"(?P<b>\d{1,2})(?P<s1>[-/.])(?P<c>\d{1,2})(?P<s2>[-/.])(?P<y>\d{4}|\d{2})(?!\d)"),
    re.compile(r"(?P<y>(?:19|20)\d\d)(?P<s1>)(?P<b>\d\d)(?P<s2>)(?P<c>\d\d)(?:[0-2]\d[0-5]\d(?:[0-5]\d)?)?(?!\d)"),
    re.compile(r"(?P<b>\d{1,2})(?P<s1>/)(?P<c>\d{1,2})(?P<s2>)(?P<y>)(?![\d/])"),
)
_SHORT_NAMED = re.compile(
    rf"(?P<days>\d{{1,2}})(?P<s1>[ -]?)(?P<n>{part.MONTH})(?P<s2>[ -]?)(?P<y>(?:19|20)\d\d|'?\d\d)(?!\d)", re.I
)
_DAY_MONTH = re.compile(
    rf"(?P<days>{part.DAY}(?:{_NEXT}{part.DAY})*)(?P<s1>[\s-](?:of\s)?)(?P<n>{part.MONTH})(?:(?P<s2>,?[\s-](?:of\s)?)(?P<y>{part.YEAR}|{part.SHORT_YEAR}))?(?!\w)",
    re.I,
)
_MONTH_DAY = re.compile(
    rf"(?P<n>{part.MONTH})(?P<s1>[\s-](?:the\s)?)(?P<days>{part.DAY}(?:{_NEXT}{part.DAY})*)(?:(?P<s2>,?\s(?:of\s)?)(?P<y>{part.YEAR}|'\d\d))?(?!\w)",
    re.I,
)
_DAYS = re.compile(rf"({part.DAY})", re.I)
_NAMED_MONTH = re.compile(
    rf"(?P<n>{part.MONTH}|winter|spring|summer|autumn|fall)(?:(?P<s2>(?:\sof|,)?[\s-])(?P<y>{part.YEAR}|'\d\d(?!\d)))?(?!\w)",
    re.I,
)
_MONTH_NUMBER = (
    re.compile(r"(?P<m>\d{1,2})(?P<s>[/.-])(?P<y>(?:18|19|20)\d\d)(?!\d)"),
    re.compile(r"(?P<m>\d{1,2})(?P<s>/)(?P<y>\d\d)(?![\d/])"),
    re.compile(r"(?P<y>(?:18|19|20)\d\d)(?P<s>-)(?P<m>0[1-9]|1[0-2])(?!\d)"),
)
_BARE_YEAR = re.compile(rf"(?P<y>{part.YEAR})(?:(?P<s>[-/])(?P<z>\d\d)(?!\d))?(?!\w)", re.I)
# A longer span is no date; the cost of reading one may grow with the square of its length.
_LONGEST = 400
# A date without a year is placed in one that has no 29 February, and stays in it.
_NO_YEAR = 2001


def year_of(text: str) -> int | None:
    """The year in ``text``, in four digits or in words, or None."""
    found = _FOUR.search(text)
    return int(found[0]) if found else spelled_year(text)


def day_first_hint(texts: Sequence[str]) -> bool | None:
    """Whether the numeric dates of one writer put the day first, as far as one of them can be read in one way only.

    Returns:
        None if no date decides it, or if they contradict each other.
    """
    said = set()
    for text in texts:
        for match in re.finditer(r"(?<![\d/.-])(\d{1,2})[-/](\d{1,2})[-/](?:\d{4}|\d{2})(?![\d/-])", text):
            first, second = int(match[1]), int(match[2])
            if (first > 12) != (second > 12):
                said.add(first > 12)
    return said.pop() if len(said) == 1 else None


@dataclass(slots=True)
class _Dated:
    """Days of one month as they are written: where each part stands, and where the days have moved to."""

    match: re.Match[str]
    tokens: list[str]
    month: int
    year: int | None
    is_numeric: bool = False
    is_day_first: bool = False

    def moved(self, days: int) -> list[date]:
        """Each day after the shift; without a year the days go round in one year."""
        read = [date(self.year or _NO_YEAR, self.month, part.day_of_token(t)) for t in self.tokens]
        if self.year:
            return [day + timedelta(days) for day in read]
        first = date(_NO_YEAR, 1, 1)
        return [first + timedelta(((day - first).days + days) % 365) for day in read]

    def written(self, dates: list[date], *, is_year_needed: bool) -> str:
        """The moved days as text; ``is_year_needed`` adds a year where none was written."""
        made = self._in_numbers(dates[0]) if self.is_numeric else self._in_names(dates)
        return made + f"{'/' if self.is_numeric else ' '}{dates[-1].year}" * is_year_needed

    def _in_numbers(self, day: date) -> str:
        g = self.match.groupdict()
        second, third = (day.day, day.month) if self.is_day_first else (day.month, day.day)
        # "12/30" alone does not tell whether its writer pads; a sibling in the same span may.
        is_padded = "0" in (g["b"][0], g["c"][0]) or not _UNPADDED.search(
            self.match[0] if self.match.start("y") < self.match.start("b") else self.match.string
        )
        b, c = (f"{second:02}", f"{third:02}") if is_padded else (f"{second}", f"{third}")
        year = part.year_like(g["y"], day.year) if g["y"] else ""
        if self.match.start("y") < self.match.start("b"):
            return f"{year}{g['s1']}{b}{g['s2']}{c}"
        return f"{b}{g['s1']}{c}{g['s2']}{year}"

    def _in_names(self, dates: list[date]) -> str:
        g = self.match.groupdict()
        name, s1 = g["n"], g["s1"]
        is_short = name.lower() == "may" and s1 in ("", "-")
        gaps = [*_DAYS.split(g["days"])[2:-1:2], ""]
        year_end = f"{g['s2']}{part.year_like(g['y'], dates[-1].year)}" if g["y"] else ""
        model = (g["s2"], g["y"]) if g["y"] else (" ", f"{_NO_YEAR}")
        is_month_first = self.match.start("n") < self.match.start("days")
        made = ""
        for i, (token, day, gap) in enumerate(zip(self.tokens, dates, gaps, strict=True)):
            shown, month = part.day_like(token, day.day), part.month_like(name, day.month, is_short=is_short)
            before, after = dates[i - 1] if i else None, dates[i + 1] if i + 1 < len(dates) else None
            if is_month_first:
                is_named = before is None or (before.month, before.year) != (day.month, day.year)
                made += f"{month}{s1}{shown}" if is_named else shown
            else:
                is_named = after is None or (after.month, after.year) != (day.month, day.year)
                made += f"{shown}{s1}{month}" if is_named else shown
            if self.year and after is not None and after.year != day.year:
                made += f"{model[0]}{part.year_like(model[1], day.year)}"
            made += gap
        return made + year_end


def shift(text: str, days: int, *, is_day_first: bool | None = None) -> str | None:
    """Move every date in ``text`` by ``days``.

    Args:
        text: one date, a range or a list, perhaps with weekdays and times.
        days: may be negative.
        is_day_first: how a numeric date is read that could be read in two ways; None is as in the US.

    Returns:
        The shifted text in the same form, or None if a part of it cannot be read.
    """
    if len(text) > _LONGEST:
        return None
    try:
        pieces = _pieces(text, days, is_day_first)
        if pieces is None:
            return None
        _lend_years(pieces)
        return _joined(pieces, days)
    except (ValueError, OverflowError):
        return None


def _pieces(text: str, days: int, is_day_first: bool | None) -> list[str | _Dated] | None:
    pieces: list[str | _Dated] = []
    is_dated = False
    at = 0
    while at < len(text):
        if found := _dated(text, at, is_day_first) or _undated(text, at, days):
            piece, at = found
            is_dated = True
        elif time := _TIME.match(text, at):
            at = time.end()
            continue
        elif glue := _GLUE.match(text, at):
            piece, at = glue[0], glue.end()
        else:
            return None
        pieces.append(piece)
    return pieces if is_dated else None


def _dated(text: str, at: int, is_day_first: bool | None) -> tuple[_Dated, int] | None:
    for pattern in _NUMERIC:
        if (match := pattern.match(text, at)) and (dated := _numeric(match, is_day_first)):
            return dated, match.end()
    for pattern in (_SHORT_NAMED, _DAY_MONTH, _MONTH_DAY):
        if match := pattern.match(text, at):
            tokens = _DAYS.findall(match["days"])
            year = part.year_of_token(match["y"]) if match["y"] else None
            return _Dated(match, tokens, part.month_of_token(match["n"]), year), match.end()
    return None


def _numeric(match: re.Match[str], is_day_first: bool | None) -> _Dated | None:
    second, third = int(match["b"]), int(match["c"])
    is_year_first = match.start("y") < match.start("b")
    by_hint = not is_year_first and (match["s1"] == "." or bool(is_day_first))
    day_first = not is_year_first and (second > 12 or (by_hint and third <= 12))
    day, month = (second, third) if day_first else (third, second)
    # "03/45" is a month and a year.
    if not match["y"] and not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    year = part.year_of_token(match["y"]) if match["y"] else None
    return _Dated(match, [f"{day}"], month, year, is_numeric=True, is_day_first=day_first)


def _undated(text: str, at: int, days: int) -> tuple[str, int] | None:
    """A month, season, year or weekday without a day, moved by whole months, years or days."""
    if match := _WEEKDAY.match(text, at):
        return part.weekday_like(match[0], days), match.end()
    months = round(days * 12 / 365.25)
    for pattern in _MONTH_NUMBER:
        if (match := pattern.match(text, at)) and 1 <= int(match["m"]) <= 12 and not _is_span_of_years(match):
            year, month = divmod(part.year_of_token(match["y"]) * 12 + int(match["m"]) - 1 + months, 12)
            shown = f"{month + 1:02}" if len(match["m"]) == 2 else f"{month + 1}"
            both = (shown, part.year_like(match["y"], year))
            return match["s"].join(both if match.start("m") == at else both[::-1]), match.end()
    if match := _NAMED_MONTH.match(text, at):
        return _moved_name(match, months), match.end()
    if match := _BARE_YEAR.match(text, at):
        years = round(days / 365.25)
        made = part.year_like(match["y"], part.year_of_token(match["y"]) + years)
        tail = f"{match['s']}{(int(match['z']) + years) % 100:02}" if match["z"] else ""
        return made + tail, match.end()
    return None


def _is_span_of_years(match: re.Match[str]) -> bool:
    """Whether "2008-09" is a season or a business year."""
    return match.start("y") < match.start("m") and int(match["m"]) == (int(match["y"]) + 1) % 100


def _moved_name(match: re.Match[str], months: int) -> str:
    name = match["n"]
    season = {"fall": "autumn"}.get(name.lower(), name.lower())
    year = part.year_of_token(match["y"]) if match["y"] else _NO_YEAR
    if season in part.SEASONS:
        year, index = divmod(year * 4 + part.SEASONS.index(season) + round(months / 3), 4)
        made = "fall" if name.lower() == "fall" and index == 3 else part.SEASONS[index]
        shown = part.cased(made, name)
    else:
        year, index = divmod(year * 12 + part.month_of_token(name) - 1 + months, 12)
        shown = part.month_like(name, index + 1)
    return shown + (f"{match['s2']}{part.year_like(match['y'], year)}" if match["y"] else "")


def _lend_years(pieces: list[str | _Dated]) -> None:
    """In "30 December to 2 January 2019" the first date has the year of the last, or the one before it."""
    later: _Dated | None = None
    for piece in reversed(pieces):
        if isinstance(piece, _Dated):
            if piece.year is None and later is not None and later.year is not None:
                piece.year = later.year - (piece.month > later.month)
            later = piece


def _joined(pieces: list[str | _Dated], days: int) -> str:
    made: list[str] = []
    later: date | None = None
    for piece in reversed(pieces):
        if isinstance(piece, str):
            made.append(piece)
            continue
        dates = piece.moved(days)
        is_lent = piece.year is not None and not piece.match["y"]
        # The reader takes a missing year from the date behind it, or the year before that one.
        is_clear = later is not None and later.year - dates[-1].year == (dates[-1].month > later.month)
        made.append(piece.written(dates, is_year_needed=is_lent and not is_clear))
        later = dates[0]
    return "".join(reversed(made)).strip()
