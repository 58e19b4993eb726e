# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Rules for street addresses, post boxes and postcodes, written as a small grammar that crosses line breaks.

Guarantees: the pieces of one address (number, street, unit, town, region, postcode, country) come out as one span.
Does not: find a bare town; that is the tagger's and the gazetteer's part.

Example:
    >>> from compliance.redaction.rules import apply_rules
    >>> text = "He lives at 12 Elm Street, Apt. 4\\nSpringfield, IL 62704."
    >>> [text[f.start:f.end] for f in apply_rules(ADDRESSES, text, float("inf")) if f.rule == "address.street"]
    ['12 Elm Street, Apt. 4\\nSpringfield, IL 62704']
"""

from __future__ import annotations

import re

from compliance.redaction.rules import Rule, words

_STATE = "A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
_STATE_NAME = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|"
    "Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New (?:Hampshire|Jersey|Mexico|York)|"
    "(?:North|South) (?:Carolina|Dakota)|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|Tennessee|Texas|Utah|Vermont|(?:West )?Virginia|Washington|Wisconsin|Wyoming"
)
_SUFFIX = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Boulevard|Blvd|Drive|Dr|Lane|Ln|Court|Ct|Place|Pl|Terrace|Ter|Circle|Cir|Highway|Hwy|Parkway|Pkwy|Square|Sq|"
    r"Trail|Trl|Way|Crescent|Cres|Close|Alley|Mews|Row|Walk|Gardens|Gdns|Grove|Hill|Loop|Pike|Plaza|Point|Quay|Ridge|Route|Run|Turnpike|Broadway|Expressway)"
)
_UNIT = (
    r"(?:(?:Apt|Apartment|Suite|Ste|Unit|Room|Rm|Floor|Fl|Bldg|Building|Flat|Lot|#)\.?\s?#?\s?[A-Z]?-?\d{0,5}[A-Z]?\b)"
)
_W = r"[A-ZÀ-ÞŁŚŻŠŽČŘĐİŐŰ][\w'’.-]{0,24}"
_STEM = "[A-ZÀ-ÞŁŚŻŠŽČŘĐİŐŰ][\\w'’.-]"
_GAP = r"[ \t]{0,8}(?:,|\n|[ \t])[ \t\n,]{0,4}"
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_POST = r"(?:\d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d|\d{3} \d{2}|\d{4}(?: [A-Z]{2})?|[A-Z]-\d{4,5}|\d{2}-\d{3}|\d{5}-\d{3})"
# town, region, postcode, country behind a street; every part optional, in the orders of the US and of Europe
_TAIL = (
    rf"(?:{_GAP}{_UNIT})?"
    rf"(?:{_GAP}{_POST}\s{_W}(?:[ -]{_W}){{0,2}}|{_GAP}(?:{_W}(?:[ -]{_W}){{0,3}})?{_GAP}(?:(?:{_STATE}|{_STATE_NAME})\b(?:{_GAP}(?:{_W}\s?){{0,2}}{_POST})?|(?:{_W}\s){{0,2}}{_POST}(?!\w)))?"
)

# What stands before the house number in these languages; the rules below hold the same words.
_GERMANIC = (
    "straße", "strasse", "str.", "weg", "gasse", "platz", "allee", "damm", "ufer", "gatan", "gata", "vägen", "väg", "veien", "vegen", "vei", "gränd",
    "vej", "gade", "katu", "tie", "kuja", "polku", "straat", "laan", "plein", "gracht", "kade", "utca", "u.", "tér", "út", "götu", "stræti", "tee",
    "puiestee", "iela", "gatvė",
)  # fmt: skip
_HUNGARIAN = (
    "utca",
    "út",
    "tér",
    "körút",
    "u.",
    "tee",
    "mnt",
    "street",
    "trg",
    "ulica",
    "cesta",
    "ulice",
    "nám.",
    "tř.",
)

ADDRESSES: tuple[Rule, ...] = (
    Rule(
        "address.street",
        "ADDRESS",
        re.compile(
            rf"(?<![\w.,/$-])\d{{1,6}}[A-Za-z]?(?:[-/]\d{{1,4}}[A-Za-z]?)?,?\s(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.?\s)?"
            rf"(?:(?:{_W}|\d{{1,3}}(?:st|nd|rd|th))\s){{1,4}}?{_SUFFIX}\b\.?(?:\s\d{{1,4}}(?=[ ]?[,#\n]))?(?:\s(?:N|S|E|W|NE|NW|SE|SW)\b\.?)?{_TAIL}"
        ),
        0.85,
        needs="0",
    ),
    Rule(
        "address.street_any_case",
        "ADDRESS",
        re.compile(r"(?<![\w.,/$-])\d{1,5}\s(?:(?!the\b|and\b|of\b|to\b|in\b)[a-z'-]{2,20}\s){1,3}?(?:street|avenue|road|boulevard|drive|lane|highway|blvd|parkway)\b(?:,?\s(?:apt|suite|unit)\.?\s?\d{1,5})?"),
        0.6,
        against=words("minutes?", "hours?", "days?", "miles?"),
        needs="0",
    ),
    Rule(
        "address.romance",
        "ADDRESS",
        re.compile(
            rf"(?:(?<![\w.,/-])\d{{1,5}}\s?(?:bis|ter|[a-z]\b)?,?\s)?\b(?:Rue|Via|Viale|Vicolo|Calle|Avenida|Av\.|Plaza|Pl\.|Rua|Avenue|Boulevard|Place|Piazza|Corso|Strada|Str\.|Passeig|Carrer|C/|"
            rf"Chemin|Quai|Allée|Impasse|Ulica|ul\.|al\.|os\.|Aleja|Rúa|Camino|Paseo|Travessa|Largo|Praça|Estrada|Bulevardul|Calea|Ulitsa|Langgasse|rue|via|calle)"
            rf"\s(?:(?:de|du|des|la|le|les|del|della|dei|di|da|do|dos|das|el|los|las|l'|d'|al|a|e)\s?){{0,3}}{_W}(?:\s(?:(?:de|du|des|la|del|della|di|da|do)\s)?{_W}){{0,3}}(?:,?\s(?:n[°ºo]\.?\s?)?\d{{1,5}}[A-Za-z]?(?:[-/]\d{{1,4}}[A-Za-z]?)?)?{_TAIL}"
        ),
        0.6,
    ),
    Rule(
        "address.germanic",
        "ADDRESS",
        re.compile(
            rf"(?:(?<![\w.,/-])\d{{2,5}}\s)?\b(?:{_W}[\s-]){{0,2}}{_STEM}{{2,24}}?(?:straße|strasse|str\.|weg|gasse|platz|allee|damm|ufer|gatan|gata|vägen|väg|veien|vegen|vei|gränd|vej|gade|katu|tie|kuja|polku|straat|laan|plein|gracht|kade|utca|u\.|tér|út|götu|gata|stræti|tee|puiestee|iela|gatvė)"
            rf"\s\d{{1,5}}\s?[A-Za-z]?\b(?:\s?[-/]\s?\d{{1,4}})?{_TAIL}"
        ),
        0.7,
        needs="0", endings=_GERMANIC, reach=130),
    Rule("address.hungarian", "ADDRESS", re.compile(rf"\b{_W}(?:\s{_W}){{0,2}}\s(?:utca|út|tér|körút|u\.|tee|mnt|street|Street|trg|ulica|cesta|ulice|nám\.|tř\.)\s\d{{1,4}}\.?(?:/\w)?{_TAIL}"), 0.7, needs="0", endings=_HUNGARIAN, reach=130),
    Rule("address.box", "ADDRESS", re.compile(rf"\b(?:P\.?\s?O\.?\s?Box|Post(?:al)? (?:Office )?Box|Postbox|Box|Postfach|Apartado)\s#?\d{{1,6}}\b{_TAIL}", re.I), 0.8, needs="0"),
    Rule("address.town_state_zip", "ADDRESS", re.compile(rf"\b{_W}(?:[ -]{_W}){{0,2}},?\s(?:{_STATE}|{_STATE_NAME}),?\s{{1,2}}\d{{5}}(?:-\d{{4}})?(?!\w)"), 0.85, needs="0", near=re.compile(r"\d{5}(?:-\d{4})?(?!\w)"), reach=115),
    Rule("address.number_name_number", "ADDRESS", re.compile(rf"(?<![\w.,/$-])\d{{1,5}} {_W}(?: {_W}){{0,2}} \d{{1,5}}[A-Za-z]?(?=,?\s{{1,4}}(?:Apt|Apartment|Suite|Ste|Unit|Flat)\b)"), 0.7, needs="0"),
    Rule("address.town_zip", "ADDRESS", re.compile(rf"\b(?:in|at|near|from) (?P<v>(?!{_MONTHS}){_W}(?:[ -]{_W}){{0,2}} (?:\d{{5}}|(?!19|20)\d{{4}}))(?![\w,.]\d|\w)"), 0.55, needs="0"),
    Rule("address.town_state", "LOCATION", re.compile(rf"(?<!\w)(?P<v>{_W}(?:[ -]{_W}){{0,2}}),\s(?:{_STATE}|{_STATE_NAME})(?![\w-])"), 0.6, check=lambda town: not town.isupper() and not town.endswith(("'s", "’s")), near=re.compile(rf",\s(?:{_STATE}|{_STATE_NAME})(?![\w-])"), reach=85),
    Rule("address.corner", "ADDRESS", re.compile(rf"\b(?:the\s)?(?:corner|intersection|junction)\sof\s(?:[^\n.;]|(?<=ul|al|os|tr)\.|(?<=u)\.|(?<=St)\.){{3,60}}?\sand\s(?:(?:de|la|du|ul\.|rue)\s){{0,2}}(?:\d{{1,4}}\s)?[\w'’.-]{{2,25}}(?:\s{_W}){{0,3}}(?:\s\d{{1,5}})?"), 0.8),
    Rule("address.military", "ADDRESS", re.compile(r"\b(?:(?:unit|psc|cmr)\s\d{1,5},?(?:\s?box\s\d{1,5})?|us(?:s|nv|ns|cgc)\s[\w'’-]{2,25})\s{1,2}(?:apo|fpo|dpo),?\s(?:aa|ae|ap)\s\d{5}(?!\d)", re.I), 0.95, needs="0"),
    Rule("address.unit", "ADDRESS", re.compile(r"\b(?:Apt|Apartment|Suite|Ste)\b\.?\s?#?\s?[A-Z]?-?\d{1,5}[A-Z]?\b"), 0.6, needs="0"),
    Rule("zip.us", "ZIP", re.compile(r"(?:(?<=\b[A-Z]{2} )|(?<=\b[A-Z]{2}, ))\d{5}(?:-\d{4})?(?!\w)"), 0.6, needs="0"),
    Rule("zip.plus4", "ZIP", re.compile(r"(?<![\w-])\d{5}-\d{4}(?![\w-])"), 0.6, needs="0"),
    Rule("zip.label", "ZIP", re.compile(r"\b(?:zip(?:\s?code)?|post(?:al)?\s?code|postcode|plz|cap|cep)\s?(?:is|was|:|=|#)?\s{0,2}(?P<v>[A-Z0-9]{2,5}(?:[ -](?=[A-Z]{0,3}\d)[A-Z0-9]{2,4})?)(?!\w)", re.I), 0.85, check=lambda value: any(c.isdigit() for c in value), needs="0"),
    Rule("zip.uk", "ZIP", re.compile(r"(?<![\w-])(?:[A-PR-UWYZ](?:\d{1,2}|[A-HK-Y]\d|[A-HK-Y]\d\d|\d[A-HJKPS-UW]|[A-HK-Y]\d[ABEHMNPRV-Y]) \d[ABD-HJLNP-UW-Z]{2})(?![\w-])"), 0.75, needs="0", starts="code"),
    Rule("zip.ca", "ZIP", re.compile(r"(?<![\w-])[ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z] \d[ABCEGHJ-NPRSTV-Z]\d(?![\w-])"), 0.75, needs="0", starts="code"),
)  # fmt: skip
