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
from collections.abc import Iterator

from compliance.redaction import checksums as check
from compliance.redaction.finding import Finding
from compliance.redaction.rules import Rule, words

_TLD = (
    "com|org|net|edu|gov|mil|int|info|biz|io|co|ai|app|dev|health|law|bank|eu|us|uk|de|fr|es|it|nl|be|ch|at|se|no|dk|fi|pl|cz|sk|hu|"
    "ro|bg|gr|pt|ie|ca|au|nz|br|mx|ar|cl|in|cn|jp|kr|sg|za|tr|ru|ua|il|is|ee|lv|lt|si|hr|rs|lu|li|cy|mt"
)
_PHONE_WORDS = words(
    "call(?:ed|ing)?", "phones?", "phoned", "tel", "telephone", "mobile", "cell(?:ular)?", "fax", "dial", "ring", "text", "reach(?:ed)?",
    "contact", "numbers? (?:is|are)", "hotline", "whatsapp", "sms", "voicemail", "pager", "landline", "extension", "number"
)  # fmt: skip
_NOT_PHONE = words(
    "usd", "eur", "gbp", r"pages? \d*", "section", "article", "invoice", "order", "isbn", "ssn", "account", "routing"
)

IDENTIFIERS: tuple[Rule, ...] = (
    Rule(
        "email",
        "EMAIL",
        re.compile(r"(?<![\w.%+-])[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,6}[A-Za-z]{2,24}\b"),
        1.0,
        needs="@",
    ),
    Rule(
        "email.spoken",
        "EMAIL",
        re.compile(r"\b[\w.-]{2,40}(?: ?\(at\) ?| at )[\w-]{2,40}(?: ?\(dot\) ?| dot )(?:com|org|net|edu|gov|co|uk)\b", re.I),
        0.85,
    ),
    Rule("url.scheme", "URL", re.compile(r"\b(?:https?|ftp|sftp)://[^\s<>\"'\])}]{1,300}[^\s<>\"'\])}.,;:!?]", re.I), 1.0, needs=":"),
    Rule("url.www", "URL", re.compile(r"\bwww\.[^\s<>\"'\])}]{1,300}[^\s<>\"'\])}.,;:!?]", re.I), 1.0, needs="."),
    Rule(
        "url.bare",
        "URL",
        re.compile(rf"(?<![\w@./-])(?:[A-Za-z0-9][A-Za-z0-9-]{{1,40}}\.){{1,3}}(?:{_TLD})(?:/[^\s<>\"']{{0,200}})?(?![\w@])"),
        0.7,
        needs=".",
    ),
    Rule("ip.v4", "IP", re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"), 0.95, check=check.ip, needs="0"),
    Rule("ip.v6", "IP", re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])"), 0.95, check=check.ip, needs=":"),
    Rule("photo.file", "PHOTO", re.compile(r"(?<![\w./-])[\w-]{2,60}\.(?:jpe?g|png|heic|tiff?|bmp|dcm|gif)\b", re.I), 0.8, needs="."),
    Rule("biometric.label", "BIOMETRIC", re.compile(r"\b(?:finger ?prints?|voice ?prints?|retinal?|iris|palm ?prints?|face(?: ?print)?|biometrics?)(?: (?:scan|template|id|file|record|hash|data))?(?: (?:no\.?|number|#))?[ :=#]{1,3}(?P<v>(?=[\w-]*\d)[A-Za-z0-9][\w-]{3,40})", re.I), 0.85, needs="0"),
    Rule("username.handle", "USERNAME", re.compile(r"(?<![\w@./-])@[A-Za-z_]\w{2,30}(?![\w@]|\.\w)"), 0.75, needs="@"),
    Rule("mac", "MAC", re.compile(r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b"), 0.95),
    Rule("card", "CARD", re.compile(r"(?<![\d.,-])\d(?:[ -]?\d){11,18}(?![\d-])"), 0.95, check=check.card, needs="0"),
    Rule("iban", "IBAN", re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?\b"), 1.0, check=check.iban, needs="0"),
    Rule("bic", "BIC", re.compile(r"\b[A-Z]{4}(?:A[DELTUZ]|B[AEGHRY]|C[AHLNRYZ]|D[EK]|E[EGS]|F[IR]|G[BEIR]|H[KRU]|I[ELNST]|J[OP]|K[RWZ]|L[BITUV]|M[ACDETUX]|N[LOZ]|P[KLT]|QA|R[OSU]|S[AEGIKM]|T[HRW]|U[AS]|VN|ZA)[A-Z0-9]{2}(?:[A-Z0-9]{3})?\b"), 0.3, context=words("bic", "swift"), needs=""),
    Rule("ssn", "SSN", re.compile(r"(?<![\w-])\d{3}([- .])\d{2}\1\d{4}(?![\w-])"), 0.9, check=check.ssn, needs="0"),
    Rule("itin", "TAX_ID", re.compile(r"(?<![\w-])9\d{2}([- ])\d{2}\1\d{4}(?![\w-])"), 0.9, check=check.itin, needs="0"),
    Rule("ssn.form", "SSN", re.compile(r"(?<![\w-])(?:\d{3}-\d{2}-\d{4}|[X*]{3}-[X*]{2}-\d{4})(?![\w-])"), 0.7, needs="0"),
    Rule("ein", "TAX_ID", re.compile(r"(?<![\w-])\d{2}-\d{7}(?![\w-])"), 0.55, context=words("ein", "tax", "employer", "tin", "irs"), needs="0"),
    Rule("mbi", "HEALTH_PLAN", re.compile(r"\b[1-9][A-Z][A-Z0-9]\d-?[A-Z][A-Z0-9]\d-?[A-Z]{2}\d{2}\b"), 0.9, check=check.mbi, needs="0"),
    Rule("npi", "NPI", re.compile(r"(?<![\w.,-])[12]\d{9}(?![\w-]|\.\d)"), 0.45, check=check.npi, context=words("npi", "provider", "dr", "md"), needs="0"),
    Rule("dea", "DEA", re.compile(r"\b[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7}\b"), 0.8, check=check.dea, needs="0"),
    Rule("routing", "ROUTING", re.compile(r"(?<![\w.,$-])\d{9}(?![\w-]|\.\d)"), 0.3, check=check.aba, context=words("routing", "aba", "rtn", "wire", "ach"), needs="0"),
    Rule("vin", "VEHICLE", re.compile(r"\b(?=[A-Z0-9]*\d)[A-HJ-NPR-Z0-9]{17}\b"), 0.9, check=check.vin, needs="0"),
    Rule("nhs", "MRN", re.compile(r"(?<![\w-])\d{3}[ -]?\d{3}[ -]?\d{4}(?![\w-])"), 0.3, check=check.nhs, context=words("nhs"), needs="0"),
    Rule("nino", "NATIONAL_ID", re.compile(r"\b[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]\b"), 0.9, needs="0"),
    Rule("pesel", "NATIONAL_ID", re.compile(r"(?<![\w.-])\d{11}(?![\w-])"), 0.6, check=check.pesel, needs="0"),
    Rule("nif", "NATIONAL_ID", re.compile(r"(?<![\w-])(?:\d{8}|[XYZ]-?\d{7})[- ]?[A-Z](?![\w-])"), 0.85, check=check.nif, needs="0"),
    Rule("codice_fiscale", "TAX_ID", re.compile(r"(?<!\w)[A-Z]{6}\d{2}[ABCDEHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?!\w)"), 0.9, needs="0"),
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
        re.compile(r"(?<![\w.-])(?:\+?1[ .-])?(?:\([2-9]\d{2}\)[ -]?|[2-9]\d{2}[ .-])\d{3}[ .-]\d{4}(?:\s?(?:x|ext\.?|extension)\s?\d{1,6})?(?![\w-])", re.I),
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
        re.compile(r"(?<![\w/.])\d{1,6}/\d{2}(?:\d{2})?(?![\w/]|\.\d)"),
        0.3,
        context=words("applications?", "nos?", "case", "docket", "cases", "file", "reg(?:istration)?", "appeal", "judgment", "plots?", "decision", "lawsuit", "ref"),
        raised=0.85,
        against=words("directive", "regulation", "mmhg", "bp", "blood pressure", "vision", "pressure", "pain", "score"),
        needs="/",
    ),
    Rule("reference.series", "OTHER_ID", re.compile(r"\b(?:REF|TCK|TKT|TICKET|INC|CASE|ORD|ORDER|REQ|TXN|TRX|CUST|CLIENT|EMP|STAFF|SR|APP|CONF|BKG|DOC|FILE|MEM|CLM|POL|ENC|VIS|ACC|ACCT|INV)[-#_:]?(?:(?:19|20)\d\d[-/])?[A-Z]{0,3}-?\d{4,14}\b"), 0.75, needs="0"),
    Rule("docket.matter", "CASE_NUMBER", re.compile(r"\b(?:[Mm]atter|[Cc]ase|[Dd]ocket|[Cc]ause|[Ff]ile)[ ](?P<v>[A-Z]{1,6}[-/](?:(?:19|20)\d\d[-/])?[A-Z]{0,4}-?\d{3,10})\b"), 0.85, needs="0"),
    Rule("docket.federal", "CASE_NUMBER", re.compile(r"\b(?:\d:)?\d{2}-(?:cv|cr|mj|md|bk|ap|mc|civ|cr)-\d{3,6}(?:-[A-Z]{1,4}){0,2}\b", re.I), 0.95, needs="-"),
    Rule("docket.series", "CASE_NUMBER", re.compile(r"\b(?:19|20)\d{2}[:/]\d{1,6}\b(?!/)"), 0.5, needs="0"),
    Rule("docket.roman", "CASE_NUMBER", re.compile(r"\b[IVX]{1,5} ?[A-Z]{1,3}[a-z]{0,3} ?\d{1,5}/\d{2,4}\b"), 0.8, needs="/"),
)  # fmt: skip

# Label phrase -> entity type. Longer labels first where one holds the other.
_LABELS: dict[str, str] = {
    r"social security|soc\.? ?sec\.?|ssn?": "SSN",
    r"medical records?|med\.? ?rec\.?|mrn?|mr ?#|hospital(?: id)?|chart|patient(?: id)?|unit record|hosp|nhs|encounter|visit|accession|specimen": "MRN",
    r"health ?plan|beneficiary|medicare|medicaid|hicn|mbi|subscriber|member(?:ship)?|group|insurance|insured|payer|plan id|policy ?holder": "HEALTH_PLAN",
    r"account|acct\.?|a/c|policy|loan|checking|savings|customer|client|contract|deposit|mortgage|invoice|claim|brokerage|portfolio|iban": "ACCOUNT",
    r"credit card|debit card|card|visa|mastercard|amex|american express|discover": "CARD",
    r"routing|aba|rtn|sort code|transit": "ROUTING",
    r"driver'?s?'? licen[cs]e|driving licen[cs]e|dl|d/l|licen[cs]e plate|driver id": "DRIVER_LICENSE",
    r"licen[cs]e|lic\.?|certificate|cert\.?|registration|permit|state bar|bar|board certification|credential": "LICENSE",
    r"npi": "NPI",
    r"dea": "DEA",
    r"passport|travel document": "PASSPORT",
    r"tax(?:payer)?(?: id| identification)?|tin|itin|ein|fein|vat|utr": "TAX_ID",
    r"national id(?:entity)?|identity(?: card)?|nino?|national insurance|personal|pesel|bsn|cpr|aadhaar|nric|id card|citizen": "NATIONAL_ID",
    r"vin|vehicle(?: identification)?|plate|tag|registration plate": "VEHICLE",
    r"serial|s/n|sn|device(?: id| identifier)?|udi|imei|imsi|model/serial|implant|pacemaker|lot|meid|iccid|ref(?:erence)?/lot": "DEVICE",
    r"fax|facsimile": "FAX",
    r"phone|telephone|tel\.?|mobile|cell|pager": "PHONE",
    r"docket|case|cause|application|appeal|file|matter|complaint|petition|indictment|proceedings?|writ|register(?:ed)?|land register": "CASE_NUMBER",
    r"bates": "BATES",
    r"user ?name|user ?id|login|userid|handle|screen name": "USERNAME",
    r"pass(?:word|code)|pin|access code|api key|token": "SECRET",
    r"reference|ref\.?|confirmation|tracking|employee|staff|student|badge|order|ticket|booking|voucher|record|sample|study|subject|barcode|id": "OTHER_ID",
}  # fmt: skip
_LABEL_TYPES = [(re.compile(rf"(?:{label})", re.I), kind) for label, kind in _LABELS.items()]
# A label must be said to be a number ("no", "id", "#", ":"), otherwise "group 12" or "visit 3" would count.
_MARK = r"(?:(?:numbers?|num|nos?|nr|n°|id|ids|identifier|identification|code|#|№)\.?(?!\w)|#)"
_LABEL_END = re.compile(
    rf"(?<![\w])(?P<label>{'|'.join(_LABELS)})(?!\w)[\s'’]{{0,2}}(?:s\b)?\s?(?P<mark>{_MARK}(?:\s?[(\w]{{0,8}}\))?)?"
    r"(?P<link>\s{0,3}(?:[:=#,(-]|is|was|are|ending(?: in)?|of|with)?\s{0,3}(?:[:#(]\s?)?)$",
    re.I,
)
_STRONG = frozenset(
    {
        "SSN",
        "NPI",
        "DEA",
        "PASSPORT",
        "CARD",
        "ROUTING",
        "DRIVER_LICENSE",
        "PHONE",
        "FAX",
        "BATES",
        "USERNAME",
        "SECRET",
    }
)
_STRONG_LABEL = re.compile(
    r"(?:mrn?|vin|imei|s/n|serial|account|acct\.?|a/c|iban|ein|itin|tin|nhs|hicn|mbi|pesel|docket|udi|plate|bsn)$", re.I
)
_VALUE = re.compile(
    r"(?<![\w.])(?=[A-Za-z/._-]{0,12}\d)[A-Za-z0-9]{1,24}(?:[-/._:]{1,2}[A-Za-z0-9]{1,20}){0,6}(?:[ ](?=\d)\d{2,6}){0,4}(?![\w])"
)
_SERIES = re.compile(r"[A-Z]{1,6}[-/](?:[A-Z0-9]{1,6}[-/])?\d{4,12}")
_YEAR = re.compile(r"(?:19|20)\d\d")


def find_labelled(text: str) -> Iterator[Finding]:
    """Yield values that a label just before them announces, such as ``MRN: 0012345`` or ``policy no. AB-123``.

    Args:
        text: a folded view.
    """
    for match in _VALUE.finditer(text):
        start, end = match.span()
        value = match[0]
        count = sum(map(str.isdecimal, value))
        if count < 2 or (count < 5 and _YEAR.fullmatch(value)):
            continue
        found = _LABEL_END.search(text, max(0, start - 48), start)
        if found is None:
            continue
        label, mark, link = found["label"], found["mark"], found["link"]
        kind = next(kind for pattern, kind in _LABEL_TYPES if pattern.fullmatch(label))
        strong = kind in _STRONG or _STRONG_LABEL.fullmatch(label) is not None
        said = bool(mark) or any(c in link for c in ":#=")
        # A series ("ticket TCK-99812") announces itself: capitals, a mark, and at least four digits.
        if not said and not (count >= 4 and (strong or _SERIES.fullmatch(value))):
            continue
        if count < 4 and not (mark and (count >= 3 or kind in ("CASE_NUMBER", "OTHER_ID"))):
            continue
        yield Finding(start, end, kind, 0.9 if strong or mark else 0.65, f"label.{kind.lower()}")
