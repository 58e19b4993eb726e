# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Rules for dates, times, ages and amounts.

Guarantees: ranges, weekdays before and times after a date belong to its span.
Does not: take "last year", "two weeks ago" or a duration for a date: they single out nobody.

Example:
    >>> from compliance.redaction.rules import apply_rules
    >>> [(f.start, f.end) for f in apply_rules(DATES, "on 3 May 2001 at 5.30 p.m.", float("inf")) if f.rule == "date.day_month"]
    [(3, 26)]
"""

from __future__ import annotations

import re

from compliance.redaction.rules import Rule, words

_MONTH = (
    r"(?:jan(?:uary|\.)?|feb(?:ruary|\.)?|mar(?:ch|\.)?|apr(?:il|\.)?|may|june?\.?|july?\.?|aug(?:ust|\.)?|sept?(?:ember|\.)?|oct(?:ober|\.)?"
    r"|nov(?:ember|\.)?|dec(?:ember|\.)?)"
)
_MONTH_NAME = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|tues?|wed|thur?s?|fri|sat|sun)\b\.?)"
_YEAR = r"(?:1[89]\d\d|20\d\d)"
_CLOCK = r"(?:[01]?\d|2[0-4])(?:[:.h][0-5]\d(?:[:.][0-5]\d(?:\.\d{1,6})?)?\s?(?:[ap]\.?\s?m\b\.?|hrs|hours|o'clock|h\b)?|\s?(?:[ap]\.?m\b\.?|o'clock))(?:\s?(?:Z|UTC|GMT|E[SD]T|C[SD]T|P[SD]T|CET|[+-]\d\d:?\d\d))?"
_TIME_TAIL = rf"(?:(?:,?\s(?:at|@|around|about)\s|T|,?\s){_CLOCK}(?!\w))?"
_HEAD = rf"(?:\b{_WEEKDAY},?\s(?:the\s)?)?"

_ONES = "one|two|three|four|five|six|seven|eight|nine"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_TEENS = "ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
_BELOW_100 = rf"(?:(?:{_TENS})(?:[ -](?:{_ONES}))?|{_TEENS}|{_ONES})"
_SPOKEN_YEAR = rf"(?:(?:nineteen|twenty)[ -](?:(?:oh|o)[ -](?:{_ONES})|(?:{_TENS})(?:[ -](?:{_ONES}))?|{_TEENS})|nineteen hundred|two thousand(?:[ -](?:and )?{_BELOW_100})?|(?:O|oh|o)[ -](?:{_ONES}))"
_SPOKEN_DAY = r"(?:(?:twenty|thirty)[ -])?(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)|tenth|eleventh|twelfth|(?:thir|four|fif|six|seven|eigh|nine)teenth|twentieth|thirtieth"

_STATUTE = words(
    "act", "acts", "law", "laws", "code", "decree", "regulations?", "directive", "protocol", "resolution", "ordinance", "treaty", "rules?",
    "constitution", "convention", "statute", "reform", "amendment", "bill", "gaap", "asu", "asc", "ifrs", "copyright", "fiscal", "fy"
)  # fmt: skip

# "Law no. 5190 of 16 June 2004": the date names the statute, not an event.
_ENACTED = re.compile(
    r"(?i)\b(?:act|law|decree|regulation|directive|ordinance|resolution|convention|protocol|treaty)(?: no\.? [\w./-]+)? (?:of|dated) (?:the )?$"
)

_SPOKEN_GATE = re.compile(r"\b(?:thousand|nineteen|twent(?:y|ieth)|thirt(?:y|ieth)|[Oo]h?|\w+(?:rst|ond|ird|th))\b")

DATES: tuple[Rule, ...] = (
    Rule(
        "date.iso",
        "DATE",
        re.compile(rf"(?<![\w-]){_YEAR}([-/.])(?:0?[1-9]|1[0-2])\1(?:0?[1-9]|[12]\d|3[01])(?:(?:T|,?\s){_CLOCK})?(?![\w-])"),
        0.95,
        needs="0",
    ),
    Rule(
        "date.numeric",
        "DATE",
        re.compile(rf"{_HEAD}(?<![\w/.-])(?:0?[1-9]|[12]\d|3[01])([-/.])(?:0?[1-9]|[12]\d|3[01])\1(?:{_YEAR}|\d\d){_TIME_TAIL}(?![\w/-]|\.\d)", re.I),
        0.9,
        needs="0",
    ),
    Rule("date.compact_name", "DATE", re.compile(r"(?<!\w)(?:0?[1-9]|[12]\d|3[01])[ -]?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[ -]?(?:(?:19|20)\d\d|'?\d\d)(?:[ :T]\d{1,2}:?\d{2}(?::\d{2})?)?(?!\w)", re.I), 0.9, needs="0"),
    Rule("date.compact", "DATE", re.compile(r"(?<!\w)(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[0-2]\d[0-5]\d(?:[0-5]\d)?)?(?!\w)"), 0.6, needs="0"),
    Rule(
        "date.day_month",
        "DATE",
        re.compile(
            rf"{_HEAD}\b(?:{_DAY}(?:\s?(?:,|and|to|or|-|until|/)\s?(?:the\s)?))?(?:{_DAY}\s(?:{_MONTH}\s)?(?:and|to|-|until)\s(?:the\s)?)?{_DAY}"
            rf"[\s-](?:of\s)?(?:{_MONTH})(?![a-z])(?:,?[\s-]'?(?:{_YEAR}|\d\d(?=[\s,.;)])(?!\s?%|:)))?{_TIME_TAIL}(?!\w)",
            re.I,
        ),
        0.95,
        against=_ENACTED,
        needs="0",
    ),
    Rule(
        "date.month_day",
        "DATE",
        re.compile(
            rf"{_HEAD}\b{_MONTH}\s(?:the\s)?{_DAY}(?!\d|[.,]\d|%|\s?(?:mg|ml|percent|years|days|months|weeks|people|patients))"
            rf"(?:\s?(?:-|and|to|through)\s?(?:{_MONTH}\s)?{_DAY})?(?:,?\s{_YEAR})?{_TIME_TAIL}(?!\w)",
            re.I,
        ),
        0.9,
        needs="0",
    ),
    Rule("date.month_year", "DATE", re.compile(rf"\b(?:(?:early|mid|late|spring|summer|autumn|fall|winter|{_MONTH}\s?(?:-|to|and|/))[\s-])?(?:{_MONTH}|spring|summer|autumn|fall|winter)(?:\sof|,)?[\s-]'?{_YEAR}\b", re.I), 0.9, needs="0"),
    Rule("date.spoken", "DATE", re.compile(rf"\b(?:{_MONTH_NAME}|january|february|april|june|july|august|september|october|november|december)(?:\s(?:the\s)?(?:(?:{_SPOKEN_DAY})|{_DAY})\b(?:,?\s(?:of\s)?{_SPOKEN_YEAR}\b)?|,?\s(?:of\s)?{_SPOKEN_YEAR}\b)"), 0.9, gate=_SPOKEN_GATE),
    Rule("date.spoken_day", "DATE", re.compile(rf"\b(?:the\s)?(?:{_SPOKEN_DAY})\sof\s{_MONTH_NAME}(?:,?\s(?:of\s)?(?:{_SPOKEN_YEAR}|{_YEAR})\b)?"), 0.9, gate=_SPOKEN_GATE),
    Rule("date.spoken_year", "DATE", re.compile(rf"\b(?:in|since|until|from|around|by|of)\s(?P<v>(?:nineteen|twenty)[ -](?:(?:oh|o)[ -](?:{_ONES})|(?:{_TENS})(?:[ -](?:{_ONES}))?|{_TEENS})|two thousand(?: and)?[ -]{_BELOW_100})\b(?!\s(?:patients|people|dollars|units|calories|milligrams|euros|pounds|percent|feet|vision))"), 0.6, gate=_SPOKEN_GATE),
    Rule("date.sentence", "DATE", re.compile(rf"\b(?:\d{{1,2}}|{_BELOW_100}) (?:years?|months?)(?: and (?:\d{{1,2}}|{_BELOW_100}) (?:months?|days?))?(?=['’]? (?:of )?(?:imprisonment|detention|probation|custody|penal servitude))", re.I), 0.6),
    Rule("date.month_slash", "DATE", re.compile(rf"(?<![\w/.-])(?:0?[1-9]|1[0-2])/{_YEAR}(?![\w/])"), 0.7, against=re.compile(r"(?i)\b(?:nos?\.?|applications?|case)[ (]{0,2}$"), needs="/"),
    Rule("date.month_short_year", "DATE", re.compile(r"(?<![\w/.-])(?:0?[1-9]|1[0-2])/(?:[3-9]\d|[0-2]\d)(?![\w/%]|\.\d)"), 0.2, context=re.compile(r"(?i)\b(?:(?:started|began|diagnosed|placed|done|performed|seen|last|back|discontinued|stopped|resected|repaired|dx|surgery|completed|admitted|hospitalized|hospitalised) (?:again )?(?:in|since|from|until|on)|since|dated|as of|exp(?:ires|iry)?\.?)[ :]{1,2}$"), raised=0.6, needs="/"),
    Rule("date.day_slash", "DATE", re.compile(r"(?<![\w/.-])(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])(?![\w/%]|\.\d|\s?(?:mm|mg|ml))"), 0.3, context=words("on", "dated?", "since", "seen", "admitted", "discharged", "dob", "appointment", "visit"), raised=0.6, against=words("nos?", "applications?", "pain", "strength", "motor", "reflexes", "pulses", "murmur", "bp", "blood", "scale", "score", "grade", "vision", "plots?", "rated?", "intensity", "out"), needs="/"),
    Rule("date.month", "DATE", re.compile(rf"\b(?:in|since|until|by|during|of|from|last|next|early|late|mid|between|through)[ -](?P<v>{_MONTH_NAME})\b(?!\s\d)"), 0.55),
    Rule("date.weekday", "DATE", re.compile(r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)day\b", re.I), 0.4),
    Rule("date.year", "DATE", re.compile(rf"(?<![\w$€£.,/:#-]){_YEAR}(?:\s?[-/]\s?(?:{_YEAR}|\d\d)|\s(?:to|and)\s{_YEAR})?(?![\w%/:-]|[.,]\d|\s?(?:euros?|dollars|pounds|mg|ml|persons|people|square|hectares|km|m2|(?:[a-z]{{1,20}}\s){{0,2}}(?:patients|women|men|subjects|cases|children|participants|individuals|samples|units|shares|employees|births)\b))"), 0.55, against=_STATUTE, needs="0"),
    Rule("date.holiday", "DATE", re.compile(r"\b(?:christmas|thanksgiving|easter|new year'?s|independence|labor|memorial)(?: (?:day|eve|sunday|monday))\b", re.I), 0.5),
    Rule("time.clock", "TIME", re.compile(r"(?<![\w.:/-])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:\s?[ap]\.?m\b\.?)?(?![\w:]|\.\d)", re.I), 0.6, needs=":"),
    Rule("time.half", "TIME", re.compile(r"(?<![\w.:/-])(?:0?\d|1[0-2])(?:[.:][0-5]\d)?\s?(?:a\.m\.|p\.m\.|am|pm|o'clock)(?!\w)", re.I), 0.6, needs="0"),
    Rule("time.dotted", "TIME", re.compile(r"\b(?:at|approximately|around) (?P<v>(?:[01]?\d|2[0-3])\.[0-5]\d)(?![\w%]|\.\d|\s?(?:per|percent|m\b|km|euro))"), 0.6, needs="0"),
)  # fmt: skip

_SPELLED = rf"(?:(?:{_TENS})(?:[\s-](?:{_ONES}))?|(?:one|a)\shundred(?:\s(?:and\s)?(?:{_ONES}|ten))?|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen|{_ONES})"

AGES: tuple[Rule, ...] = (
    Rule("age.old", "AGE", re.compile(rf"(?<![\w.])(?P<v>1?\d{{1,2}}|{_SPELLED})(?:[\s-]{{0,2}}(?:years?|yrs?|year's|y)\.?[\s-]{{0,2}}(?:old|of age|o\b)|\s?(?:y/?o|y\.o\.|yo)(?!\w))", re.I), 0.9),
    Rule("age.aged", "AGE", re.compile(rf"\b(?:aged|age(?:\s(?:is|was|of|at))?|turn(?:ed|ing|s))\s{{0,2}}:?\s{{0,2}}(?P<v>1?\d{{1,2}}|{_SPELLED})(?![\w%]|[.,]\d|\s?(?:months|weeks|days))", re.I), 0.8),
    Rule("age.is", "AGE", re.compile(r"\b(?:I'm|I am|(?:he|she)(?:'s| is| was))\s(?:now\s|only\s|just\s|about\s)?(?P<v>[1-9]\d|1[01]\d)(?=[.,;!?]|$|\sand\b|\snow\b|\swhen\b)", re.I), 0.7, needs="0"),
    Rule("age.sex", "AGE", re.compile(r"(?<![\w.,/$-])(?P<v>\d{2,3})[- ]?(?:M|F|male|female)(?=[,\s.]{1,4}(?:with|who|presents?|admitted|c/o|s/p|h/o))"), 0.8, needs="0"),
    Rule("age.apposition", "AGE", re.compile(r"\b(?:(?:grand|step|god)?(?:mother|father|son|daughter|parent|child)|(?:half-?)?(?:brother|sister)|(?:great-)?(?:aunt|uncle)|wife|husband|spouse|cousin|niece|nephew|patient|grandma|grandpa|mom|dad|man|woman|neighbou?r|widow(?:er)?), (?P<v>[1-9]\d|1[01]\d)(?=,|\.|;|\)| and\b)", re.I), 0.7, needs="0"),
    Rule("age.decade", "AGE", re.compile(r"\b(?:in|into)\s(?:his|her|their|my)\s(?:early\s|mid[- ]?|late\s)?(?P<v>(?:nineties|90'?s|hundreds|100s))\b", re.I), 0.9),
    Rule("age.band", "AGE", re.compile(r"\b(?P<v>nonagenarian|centenarian|supercentenarian)\b", re.I), 0.9),
)  # fmt: skip

_CURRENCY = "EUR|USD|GBP|CHF|TRL|TRY|YTL|PLN|ATS|SEK|NOK|DKK|FRF|DEM|ITL|ESP|CYP|HUF|CZK|SKK|RON|ROL|BGN|RUB|RUR|UAH|JPY|CAD|AUD|NZD|INR|CNY|FIM|GRD|PTE|NLG|BEF|IEP|HRK|MDL|LVL|LTL|EEK|ALL|GEL|AMD|AZN"
_CURRENCY_NAME = r"(?:euros?|pounds(?: sterling)?|dollars|(?:Turkish )?liras?|francs?|marks?|schillings?|z[lł]ot(?:ys?|ies)|kron(?:or|er|a|e)|forints?|koruna|roubles?|rubles?|lev[as]?|lei|hryvnias?|drachmas?|guilders|pesetas|lire|yen|rupees|cents)"
_AMOUNT = r"\d{1,3}(?:[, .]\d{3}){0,6}(?:[.,]\d{1,2})?(?:\s(?:million|billion|thousand))?"

AMOUNTS: tuple[Rule, ...] = (
    Rule("money.code", "MONEY", re.compile(rf"\b(?:approximately\s)?(?:{_CURRENCY})\s?{_AMOUNT}(?!\w)"), 0.8, needs="0"),
    Rule("money.name", "MONEY", re.compile(rf"(?<![\w.,]){_AMOUNT}\s(?:[A-Z][a-z]{{2,12}}\s)?{_CURRENCY_NAME}(?:\s\((?:{_CURRENCY})\))?(?!\w)", re.I), 0.8, needs="0"),
    Rule("money.after", "MONEY", re.compile(rf"(?<![\w.,]){_AMOUNT}\s?(?:{_CURRENCY})\b"), 0.8, needs="0"),
    Rule("money.sign", "MONEY", re.compile(rf"[$€£¥]\s?{_AMOUNT}(?!\w)"), 0.8, needs="0"),
)  # fmt: skip
