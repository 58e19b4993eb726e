"""Shifted dates: the interval stays, the form stays, and what cannot be read is never passed."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import date, timedelta
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.redaction import Finding, load_profile, redact, written_dates
from compliance.redaction.keyed import Keyed
from compliance.redaction.operators import Operators

FINANCE = load_profile("finance")
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
]  # fmt: skip


def numeric(day: date) -> str:
    return f"{day.month}/{day.day}/{day.year}"


def iso(day: date) -> str:
    return day.isoformat()


def worded(day: date) -> str:
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


def american(day: date) -> str:
    return f"{MONTHS[day.month - 1]} {day.day}, {day.year}"


def compact(day: date) -> str:
    return f"{day.day:02}{MONTHS[day.month - 1][:3].upper()}{day.year}"


def read(text: str) -> date:
    """An independent reader of the five forms above."""
    if found := re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", text):
        return date(int(found[1]), int(found[2]), int(found[3]))
    if found := re.fullmatch(r"(\d\d?)/(\d\d?)/(\d{4})", text):
        return date(int(found[3]), int(found[1]), int(found[2]))
    if found := re.fullmatch(r"(\w+) (\d\d?), (\d{4})", text):
        return date(int(found[3]), MONTHS.index(found[1]) + 1, int(found[2]))
    found = re.fullmatch(r"(\d\d?) ?([A-Za-z]+?) ?(\d{4})", text)
    assert found is not None, text
    month = next(i for i, m in enumerate(MONTHS, 1) if m.upper().startswith(found[2].upper()))
    return date(int(found[3]), month, int(found[1]))


forms = st.sampled_from([iso, numeric, worded, american, compact])
days_of_life = st.dates(date(1910, 1, 1), date(2090, 1, 1))
keys = st.binary(min_size=16, max_size=32)


def replaced(key: bytes, subject: str, value: str) -> str:
    return Operators(FINANCE, Keyed(key, subject)).replacement("DATE", value)


@given(keys, st.text(max_size=8), days_of_life, days_of_life, forms, forms)
def test_intervals_of_a_subject_stay_to_the_day_across_records_and_forms(
    key: bytes,
    subject: str,
    first: date,
    second: date,
    one: Callable[[date], str],
    other: Callable[[date], str],
) -> None:
    a, b = read(replaced(key, subject, one(first))), read(replaced(key, subject, other(second)))
    assert b - a == second - first
    assert 1 <= abs((a - first).days) <= 180


@given(keys, st.text(max_size=8), days_of_life, forms)
def test_the_shift_is_the_same_each_time_and_lies_in_the_window(
    key: bytes, subject: str, day: date, form: Callable[[date], str]
) -> None:
    assert replaced(key, subject, form(day)) == replaced(key, subject, form(day))


def test_another_key_or_subject_shifts_otherwise() -> None:
    by_key = {replaced(bytes([n]) * 32, "s", "2010-06-15") for n in range(60)}
    by_subject = {replaced(bytes(32), f"s{n}", "2010-06-15") for n in range(60)}
    assert min(len(by_key), len(by_subject)) > 40


@given(
    st.dates(date(2001, 1, 1), date(2001, 12, 31)),
    st.dates(date(2001, 1, 1), date(2001, 12, 31)),
    st.integers(-800, 800),
)
def test_dates_without_a_year_keep_their_distance_in_the_year(first: date, second: date, days: int) -> None:
    moved = []
    for day in (first, second):
        made = written_dates.shift(f"{MONTHS[day.month - 1]} {day.day}", days)
        assert made is not None
        month, number = made.split()
        moved.append(date(2001, MONTHS.index(month) + 1, int(number)))
    assert (moved[1] - moved[0] - (second - first)).days % 365 == 0


@given(st.integers(1950, 2050), st.integers(0, 11), st.integers(1950, 2050), st.integers(0, 11), st.integers(-365, 365))
def test_months_keep_their_distance_in_months(y1: int, m1: int, y2: int, m2: int, days: int) -> None:
    moved = []
    for year, month in ((y1, m1), (y2, m2)):
        name, number = str(written_dates.shift(f"{MONTHS[month]} {year}", days)).split()
        moved.append(int(number) * 12 + MONTHS.index(name))
    assert moved[1] - moved[0] == (y2 * 12 + m2) - (y1 * 12 + m1)


@given(days_of_life, st.integers(1, 40), st.integers(-365, 365))
def test_ranges_keep_their_length(first: date, length: int, days: int) -> None:
    last = first + timedelta(length)
    made = written_dates.shift(f"{worded(first)} to {worded(last)}", days)
    start, end = (read(each) for each in str(made).split(" to "))
    assert (start, end) == (first + timedelta(days), last + timedelta(days))


@pytest.mark.parametrize(
    ("value", "days", "expected"),
    [
        ("3-5 May 2019", 7, "10-12 May 2019"),
        ("3-5 May 2019", 28, "31 May-2 June 2019"),
        ("May 30-31, 2019", 1, "May 31-June 1, 2019"),
        ("30-31 December 2018", 1, "31 December 2018-1 January 2019"),
        ("3, 5 and 7 May 2019", 28, "31 May, 2 and 4 June 2019"),
        ("from 12/30 to 1/2", 10, "from 1/9 to 1/12"),
        ("30 December to 2 January 2019", -1, "29 December to 1 January 2019"),
        ("30 to 31 December", 1, "31 December to 1 January"),
        ("30 November to 2 December 2018", 30, "30 December to 1 January 2019"),
        ("between 3 May 2010 and 7 June 2011", 28, "between 31 May 2010 and 5 July 2011"),
        ("Friday, 3 May 2019 at 5.30 p.m.", 3, "Monday, 6 May 2019"),
        ("Fri. 05/03/2019", 1, "Sat. 05/04/2019"),
        ("31.12.1999", 30, "30.01.2000"),
        ("25/12/2001", 7, "01/01/2002"),
        ("03MAY19", 28, "31MAY19"),
        ("3-May-2019", 60, "2-Jul-2019"),
        ("3 MAY 2019", 60, "2 JULY 2019"),
        ("Sept. 3, 2010", 60, "Nov. 2, 2010"),
        ("May 3 '99", 365, "May 2 '00"),
        ("20190503", 28, "20190531"),
        ("2001-05-03T10:00:00Z", 30, "2001-06-02"),
        ("the third of May, twenty nineteen", 28, "the thirty-first of May, twenty nineteen"),
        ("May third two thousand and seven", -200, "October fifteenth two thousand and six"),
        ("nineteen ninety-five", 1826, "two thousand"),
        ("twenty oh five", 3653, "twenty fifteen"),
        ("March-May 2019", 31, "April-June 2019"),
        ("in early March", 31, "in early April"),
        ("spring 2019", 180, "autumn 2019"),
        ("05/2019", 62, "07/2019"),
        ("2019-05", 62, "2019-07"),
        ("3/45", 31, "4/45"),
        ("2008/09", 365, "2009/10"),
        ("2015-2017", -365, "2014-2016"),
    ],
)
def test_ranges_words_and_numbers_are_written_back_in_their_own_form(value: str, days: int, expected: str) -> None:
    assert written_dates.shift(value, days) == expected


@pytest.mark.parametrize(
    "value",
    [
        "sometime", "31 February 2001", "29 February", "2 years and 3 months", "Christmas Day", "3 May 2010, Smith",
        "room 12, 3 May 2010", "01/02/2003 " * 40, "3 mai 2010", "13/13/2013", "99", "oh six",
    ],
)  # fmt: skip
def test_what_cannot_be_read_to_its_end_becomes_a_placeholder(value: str) -> None:
    assert written_dates.shift(value, 30) is None
    assert replaced(bytes(32), "s", value) == "[DATE_1]"


@given(st.lists(st.tuples(days_of_life, forms), min_size=1, max_size=4), st.integers(-365, 365).filter(bool))
def test_every_date_of_a_list_moves(written: list[tuple[date, Callable[[date], str]]], days: int) -> None:
    made = written_dates.shift("; ".join(form(day) for day, form in written), days)
    assert [read(each) for each in str(made).split("; ")] == [day + timedelta(days) for day, _ in written]


@given(st.text(alphabet="0123456789/.-, MayJune'stofthTh:", max_size=24), st.integers(-365, 365))
def test_no_text_makes_the_shift_raise(value: str, days: int) -> None:
    made = written_dates.shift(value, days)
    assert made is None or made


def test_a_date_that_tells_its_order_tells_that_of_the_others_in_the_document() -> None:
    text = "Born 25/12/1980, seen 03/04/2001."
    spans = [Finding(5, 15, "DATE", 0.9, "x"), Finding(22, 32, "DATE", 0.9, "x")]
    made = redact(text, spans, profile=FINANCE, key=bytes(32), subject="s").text
    born, seen = (date(int(y), int(m), int(d)) for d, m, y in re.findall(r"(\d\d)/(\d\d)/(\d{4})", made))
    assert seen - born == date(2001, 4, 3) - date(1980, 12, 25)


def test_a_profile_may_say_that_the_day_comes_first() -> None:
    policy = dataclasses.replace(
        FINANCE.entities["DATE"], options=MappingProxyType({"day_first": True, "window_days": 1})
    )
    profile = dataclasses.replace(FINANCE, entities=MappingProxyType({**FINANCE.entities, "DATE": policy}))
    made = Operators(profile, Keyed(bytes(32), "s")).replacement("DATE", "03/04/2001")
    assert made in ("02/04/2001", "04/04/2001")
