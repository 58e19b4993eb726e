# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Rules for numbers and codes that name one person, account, document or thing.

Guarantees: checksummed kinds count without context only if the check holds; ``LABELLED`` finds any value that a label announces.
Does not: find a bare number that no form, check digit or label gives away.

Example:
    >>> from compliance.redaction.rules import apply_rules
    >>> [f.type for f in apply_rules(IDENTIFIERS, "card 4111 1111 1111 1111", float("inf"))]
    ['CARD']
"""

from __future__ import annotations

import re

from compliance.redaction import checksums as check
from compliance.redaction import country_checks as country
from compliance.redaction.country_rules import COUNTRIES
from compliance.redaction.labelled import find_labelled
from compliance.redaction.online import ONLINE
from compliance.redaction.rules import Rule, words

__all__ = ["IDENTIFIERS", "find_labelled"]

_PHONE_WORDS = words(
    "call(?:ed|ing)?", "phones?", "phoned", "tel", "telephone", "mobile", "cell(?:ular)?", "fax", "dial", "ring", "text", "reach(?:ed)?",
    "contact", "numbers? (?:is|are)", "hotline", "whatsapp", "sms", "voicemail", "pager", "landline", "extension", "number"
)  # fmt: skip
_NOT_PHONE = words(
    "usd", "eur", "gbp", r"pages? \d*", "section", "article", "invoice", "order", "isbn", "ssn", "account", "routing"
)


def _is_plate(value: str) -> bool:
    """Five to eight letters and digits, some of each."""
    plain = [c for c in value if c.isalnum()]
    return 5 <= len(plain) <= 8 and any(map(str.isdecimal, plain)) and any(map(str.isalpha, plain))


IDENTIFIERS: tuple[Rule, ...] = (
    *ONLINE,
    Rule("card", "CARD", re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){11,18}(?![\d-])"), 0.95, check=check.card, needs="0", starts="run"),
    Rule("iban", "IBAN", re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?\b"), 1.0, check=check.iban, needs="0", starts="code"),
    Rule("bic", "BIC", re.compile(r"\b[A-Z]{4}(?:A[DELTUZ]|B[AEGHRY]|C[AHLNRYZ]|D[EK]|E[EGS]|F[IR]|G[BEIR]|H[KRU]|I[ELNST]|J[OP]|K[RWZ]|L[BITUV]|M[ACDETUX]|N[LOZ]|P[KLT]|QA|R[OSU]|S[AEGIKM]|T[HRW]|U[AS]|VN|ZA)[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b"), 0.3, context=words("bic", "swift"), needs=""),
    Rule("ssn", "SSN", re.compile(r"(?<![\w-])\d{3}([- .])\d{2}\1\d{4}(?![\w-])"), 0.9, check=check.ssn, needs="0"),
    Rule("itin", "TAX_ID", re.compile(r"(?<![\w-])9\d{2}([- ])\d{2}\1\d{4}(?![\w-])"), 0.9, check=check.itin, needs="0"),
    Rule("ssn.form", "SSN", re.compile(r"(?<![\w-])(?:\d{3}-\d{2}-\d{4}|[X*]{3}-[X*]{2}-\d{4})(?![\w-])"), 0.7, needs="0"),
    Rule("ein", "TAX_ID", re.compile(r"(?<![\w-])\d{2}-\d{7}(?![\w-])"), 0.55, context=words("ein", "tax", "employer", "tin", "irs"), needs="0"),
    Rule("mbi", "HEALTH_PLAN", re.compile(r"\b[1-9][A-Z][A-Z0-9]\d-?[A-Z][A-Z0-9]\d-?[A-Z]{2}\d{2}\b"), 0.9, check=check.mbi, needs="0"),
    Rule("npi", "NPI", re.compile(r"(?<![\w.,-])[12]\d{9}(?![\w-]|\.\d)"), 0.45, check=check.npi, context=words("npi", "provider", "dr", "md"), needs="0"),
    Rule("dea", "DEA", re.compile(r"\b[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}\b"), 0.8, check=check.dea, needs="0", starts="code"),
    Rule("routing", "ROUTING", re.compile(r"(?<![\w.,$-])\d{9}(?![\w-]|\.\d)"), 0.3, check=check.aba, context=words("routing", "aba", "rtn", "wire", "ach"), needs="0"),
    Rule("vin", "VEHICLE", re.compile(r"\b(?=[A-Z0-9]{0,16}\d)[A-HJ-NPR-Z0-9]{17}\b"), 0.9, check=check.vin, needs="0", starts="code"),
    *COUNTRIES,
    Rule(
        "phone.international",
        "PHONE",
        re.compile(r"(?<![\w+])(?:\+|\b00)[1-9]\d{0,2}[ .-]?(?:\(0?\d{0,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,5}(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?!\w)", re.I),
        0.85,
        check=check.phone,
        needs="0",
    ),
    Rule(
        "phone.nanp",
        "PHONE",
        re.compile(r"(?<![\w.-])(?:(?:\+?1[ .-]?)?\(\d{3}\)[ ./-]{0,2}|\+?1[ .-]\d{3}[ .-]|[2-9]\d{2}(?:[ .-]|[ ]?/[ ]?))\d{3}[ .-]?\d{4}(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?(?![\w-])", re.I),
        0.8,
        check=check.phone,
        against=words("isbn"),
        needs="0",
    ),
    Rule(
        "phone.trunk",
        "PHONE",
        re.compile(r"(?<![\w.,/-])(?:\(0\d{1,5}\)|0\d{1,5})(?:[ .-]?\d{2,5}){2,5}(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?![\w/-]|[.,]\d)", re.I),
        0.6,
        check=check.phone,
        context=_PHONE_WORDS,
        needs="0",
    ),
    Rule(
        "phone.groups",
        "PHONE",
        re.compile(r"(?<![\w.,/$€£-])\(?\d{2,5}\)?(?:[ .-]\d{2,5}){1,5}(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?![\w%/-]|[.,]\d)", re.I),
        0.3,
        check=check.phone,
        context=_PHONE_WORDS,
        raised=0.7,
        against=_NOT_PHONE,
        needs="0",
    ),
    Rule(
        "phone.run",
        "PHONE",
        re.compile(r"(?<![\w.,/$€£-])\d{7,15}(?![\w%/-]|[.,]\d)"),
        0.2,
        check=check.phone,
        context=words("call", "phone", "tel", "telephone", "mobile", "cell", "fax", "dial", "phoned", "contact number"),
        raised=0.7,
        against=_NOT_PHONE,
        needs="0",
    ),
    Rule(
        "docket.application",
        "CASE_NUMBER",
        re.compile(r"(?<![\w/.])\d{3,6}/\d{2}(?:\d{2})?(?![\w/]|\.\d)"),
        0.3,
        context=words("applications?", "nos?", "case", "docket", "cases", "file", "reg(?:istration)?", "appeal", "judgment", "plots?", "decision", "lawsuit", "ref"),
        raised=0.85,
        against=words("directive", "regulation", "mmhg", "bp", "blood pressure", "vision", "pressure", "pain", "score"),
        needs="/",
    ),
    # Two digits before the stroke are more often a month or a share ("30/45 cases"): the number must be announced at once.
    Rule("docket.small", "CASE_NUMBER", re.compile(r"(?<![\w/.])\d{1,2}/\d{2}(?:\d{2})?(?![\w/]|\.\d)"), 0.3, context=re.compile(r"(?i)(?:\b(?:nos?|nr|ref)\.|n[°º]|№|\b(?:nos|case|docket|file|appeal|application|decision|judgment|plot|plan|sheet)s?)[ :#(]{0,3}(?:\d{1,6}/\d{2,4}(?:, and|,|;| and)[ ]){0,6}$"), raised=0.85, needs="/"),
    Rule("citation.neutral", "CASE_NUMBER", re.compile(r"\[(?:19|20)\d{2}\] (?:UKSC|UKHL|UKPC|EWCA|EWHC|CSOH|CSIH|NICA|IEHC|IESC|HCA|FCA|NSWSC|SCC|ONCA|ONSC|BCCA) (?:(?:Civ|Crim|Fam) )?\d{1,5}(?: \((?:Ch|QB|KB|Comm|Fam|Admin|TCC|Pat)\))?"), 0.9, needs="["),
    Rule(
        "plate.label",
        "VEHICLE",
        re.compile(r"\b(?:(?:licen[cs]e|number|vehicle|registration)[ ])?(?i:plates?|tags?|car registration|vehicle registration|reg(?:istration)?\.?|rego|vrm)(?:[ ](?:no\.?|number|#))?(?:[ ](?:is|was|reads?)|[ ]?[:=#])?[ ]{0,2}(?P<v>[A-Z0-9]{1,4}(?:[ -][A-Z0-9]{1,4}){1,2}|[A-Z0-9]{5,8})(?![\w-])"),
        0.8,
        check=_is_plate,
        needs="0",
    ),
    Rule("imei", "DEVICE", re.compile(r"(?<![\w-])\d{2}-?\d{6}-?\d{6}-?\d(?![\w-])"), 0.3, check=country.imei, context=words("imei", "phone", "handset", "device"), needs="0"),
    Rule("udi", "DEVICE", re.compile(r"\(01\) ?\d{14}(?: ?\((?:10|11|17|21|240|30)\) ?[\w./-]{1,20}){0,5}"), 0.95, needs="("),
    Rule("udi.hibcc", "DEVICE", re.compile(r"(?<!\w)\+[A-Z]\d{3}[A-Z0-9]{2,18}\d(?:/[$\w+]{2,40}){1,3}"), 0.9, needs="+"),
    Rule("reference.series", "OTHER_ID", re.compile(r"\b(?:REF|TCK|TKT|TICKET|INC|CASE|ORD|ORDER|REQ|TXN|TRX|CUST|CLIENT|EMP|STAFF|SR|APP|CONF|BKG|DOC|FILE|MEM|CLM|POL|ENC|VIS|ACC|ACCT|INV)[-#_:]?(?:(?:19|20)\d\d[-/])?[A-Z]{0,3}-?\d{4,14}\b"), 0.75, needs="0"),
    Rule("docket.matter", "CASE_NUMBER", re.compile(r"\b(?:[Mm]atter|[Cc]ase|[Dd]ocket|[Cc]ause|[Ff]ile)[ ](?P<v>[A-Z]{1,6}[-/](?:(?:19|20)\d\d[-/])?[A-Z]{0,4}-?\d{3,10})\b"), 0.85, needs="0"),
    Rule("docket.federal", "CASE_NUMBER", re.compile(r"\b(?:\d:)?\d{2}-(?:cv|cr|mj|md|bk|ap|mc|civ|cr)-\d{3,6}(?:-[A-Z]{1,4}){0,2}\b", re.I), 0.95, needs="-"),
    Rule("docket.series", "CASE_NUMBER", re.compile(r"\b(?:19|20)\d{2}[:/]\d{1,6}\b(?!/)"), 0.5, needs="0"),
    Rule("docket.roman", "CASE_NUMBER", re.compile(r"\b[IVX]{1,5} ?[A-Z]{1,3}[a-z]{0,3} ?\d{1,5}/\d{2,4}\b"), 0.8, needs="/"),
)  # fmt: skip
