# ruff: noqa: E501 - a word list is read in one piece
"""Values that a label just before them announces: ``MRN: 0012345``, ``policy no. AB-123``, ``Randomization # E37339``.

Guarantees: a label is a phrase of the list, or any noun that is said to be a number ("referral no.", "donor ID"); a value holds at
least two digits; one pass over the text, a dictionary look-up for each token that holds a digit.
Does not: take coding systems (NDC, CPT, LOINC), pages, rooms or statutes for labels.

Example:
    >>> text = "Donor ID 40-22817, page no. 12345, NDC no. 0002-8215-01"
    >>> [(text[f.start:f.end], f.type) for f in find_labelled(text)]
    [('40-22817', 'OTHER_ID')]
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from compliance.redaction.finding import Finding
from compliance.redaction.hl7 import find_hl7

# Entity type -> phrases, without the words that say "number". The last words before the value decide, the longest phrase first.
_PHRASES: dict[str, str] = {
    "SSN": "social security, social, soc sec, ss, ssn, sss",
    "MRN": "medical record, medical records, med rec, med record, medical rec, mr, mrn, emrn, mpi, empi, crn, hospital, hosp, chart, patient, pt, unit no, unit number, unit record, u/n, ur, nhs, encounter, visit, accession, specimen, health record, ehr, emr, epic, cerner, hospital record, facility record, pid",
    "HEALTH_PLAN": "health plan, healthplan, beneficiary, medicare, medicaid, hicn, mbi, subscriber, member, membership, group, insurance, ins, insured, payer, plan, policyholder, policy holder, plan member, cert/member, enrollee, aetna, cigna, humana, kaiser, bcbs, blue cross, blue shield, uhc, united, unitedhealthcare, anthem, tricare, wellcare, molina, ambetter, rxid, rx id, medigap, champva",
    "ACCOUNT": "account, acct, a/c, policy, loan, checking, savings, customer, client, contract, deposit, mortgage, invoice, claim, brokerage, portfolio, iban, guarantor, statement, bill, billing, har, remittance, ledger account, escrow",
    "CARD": "credit card, debit card, card, visa, mastercard, amex, american express, discover",
    "ROUTING": "routing, aba, rtn, sort code, transit, bsb",
    "DRIVER_LICENSE": "driver license, drivers license, driver's license, driver licence, drivers licence, driver's licence, driving licence, driving license, driver lic, drivers lic, driver's lic, dl, d/l, cdl, odl, driver, operator license, operator's license",
    "LICENSE": "license, licence, lic, certificate, cert, registration, permit, state bar, bar, board certification, board certificate, credential, certification, diploma, state license, medical license, birth certificate, death certificate, marriage certificate, enrollment, tribal enrollment, nmc, gmc, ahpra, upin, sbn, bar roll, ardc, juris, attorney",
    "NPI": "npi",
    "DEA": "dea",
    "PASSPORT": "passport, travel document, visa document, green card, alien registration, alien, uscis",
    "TAX_ID": "tax, taxpayer, tax identification, taxpayer identification, tin, itin, ein, fein, vat, utr, abn, gstin, pan",
    "NATIONAL_ID": "national, national identity, identity, identity card, nin, nino, national insurance, personal, pesel, bsn, cpr, aadhaar, nric, id card, citizen, curp, dni, nie, cpf, sin, tfn, nir, ahv, rut",
    "VEHICLE": "vin, vehicle, vehicle identification, plate, license plate, licence plate, number plate, tag, registration plate, rego",
    "DEVICE": "serial, s/n, sn, ser, device, device identifier, udi, imei, imsi, model/serial, implant, implant serial, pacemaker, lot, ref/lot, reference/lot, meid, iccid, asset, asset tag, equipment, machine, prosthesis, generator",
    "FAX": "fax, facsimile",
    "PHONE": "phone, telephone, tel, mobile, cell, pager, beeper, callback, extension",
    "CASE_NUMBER": "docket, case, cause, application, appeal, file, matter, complaint, petition, indictment, proceeding, proceedings, writ, register, registered, land register, index, civil action, adversary, incident, police report, report",
    "BATES": "bates",
    "USERNAME": "username, user name, user, login, userid, handle, screen name",
    "SECRET": "password, passcode, pin, access code, api key, token, one-time code, verification code, security code",
    "OTHER_ID": "reference, ref, confirmation, tracking, employee, staff, student, badge, order, ticket, booking, voucher, record, sample, study, trial, subject, barcode, rx, prescription, script, requisition, referral, authorization, authorisation, auth, prior auth, prior authorization, csn, fin, randomization, randomisation, donor, inmate, prisoner, booking, transaction, trace, work order, slide, cassette, bottle, participant, screening, enrolment, locker, caseworker, household, family, pedigree, military, veteran, payroll, personnel, id",
}  # fmt: skip
_KINDS = {phrase: kind for kind, phrases in _PHRASES.items() for phrase in (p.strip() for p in phrases.split(","))}
_MARKS = frozenset(["number", "numbers", "num", "no", "nos", "nr", "nbr", "n°", "nº", "id", "ids", "identifier", "identification", "code", "№", "id#", "no#", "key"])  # fmt: skip
_IDS = frozenset(["id", "ids", "identifier", "identification", "id#"])
_LINKS = frozenset(["is", "was", "are", "of", "with", "ending", "in", "reads", "under"])
# What is numbered without naming anybody, and codes that everybody shares.
_NO_LABELS = frozenset(
    [
        "page", "pages", "room", "bed", "floor", "figure", "fig", "table", "section", "sections", "chapter", "paragraph", "clause", "article",
        "articles", "item", "line", "question", "step", "grade", "stage", "class", "level", "day", "week", "visit", "cycle", "dose", "cpt", "icd",
        "icd-10", "icd-9", "icd10", "ndc", "loinc", "snomed", "hcpcs", "drg", "cvx", "rxnorm", "procedure", "diagnosis", "billing", "model",
        "type", "version", "area", "country", "dialing", "calling", "contact", "total", "large", "small", "the", "a", "this", "that", "any",
        "in", "of", "and", "or", "with", "by", "for", "to", "law", "act", "decree", "regulation", "directive", "protocol", "resolution",
        "ordinance", "order", "series", "report", "cas", "isbn", "issn", "pmid", "doi", "cusip", "isin", "sic", "naics", "dot", "ec", "atc",
        "zip", "postal", "post", "post-", "qr", "color", "colour", "dress", "building", "penal", "civil", "criminal", "labour", "labor", "tax", "commercial",
        "note", "exhibit", "schedule", "annex", "appendix", "amendment", "statement", "form", "rule", "treaty", "release", "asu", "ifrs", "sfas",
        "catalog", "catalogue", "part", "needle", "blade", "gauge", "trocar", "size", "suture", "tooth", "lead", "channel", "rev", "revenue",
        "modifier", "update", "standard", "standards", "reynolds", "mach", "atomic", "batch", "phone", "telephone", "tel", "fax", "mobile", "cell", "pager", "issue", "volume", "vol", "bulletin",
    ]
)  # fmt: skip
_STRONG_KINDS = frozenset(["SSN", "NPI", "DEA", "PASSPORT", "CARD", "ROUTING", "DRIVER_LICENSE", "PHONE", "FAX", "BATES", "USERNAME", "SECRET"])  # fmt: skip
_STRONG = frozenset(
    [
        "mr", "mrn", "emrn", "vin", "imei", "s/n", "sn", "serial", "account", "acct", "a/c", "iban", "ein", "itin", "tin", "nhs", "hicn", "mbi", "pesel",
        "docket", "udi", "plate", "license plate", "licence plate", "bsn", "medical record", "medical records", "med rec", "med record", "device identifier",
        "implant serial", "csn", "har", "fin", "u/n", "mpi", "empi", "rego", "npi", "lot", "implant",
    ]
)  # fmt: skip
# Listed phrases that laws, standards and sums bear as well.
_COMMON = frozenset(["statement", "bill", "report", "order", "united", "group", "ins", "register", "petition"])

_VALUE = re.compile(
    r"(?<![\w.])(?=[A-Za-z/._-]{0,12}\d)[A-Za-z0-9]{1,24}(?:[-/._:]{1,2}[A-Za-z0-9]{1,20}){0,6}(?:[ ](?=\d)\d{2,6}){0,4}(?![\w])"
)
_SERIES = re.compile(r"[A-Z]{1,6}[-/._]?(?:[A-Z0-9]{1,6}[-/])?\d{4,12}[A-Z]?")
_GROUPED = re.compile(r"[A-Z]{0,3}\d{2,10}-\d{2,10}-\d{1,10}|(?!(?:19|20)\d\d-(?:19|20))\d{2,6}-\d{4,10}")
_YEAR = re.compile(r"(?:19|20)\d\d")
_PREFIX = re.compile(r"(?<![\w.-])[A-Z]{1,3}[ ]$")
_HEAD = re.compile(r"([A-Za-z/]{2,12})[-_:.]{1,2}(?=[A-Za-z]{0,3}\d)")
_REACH = 56


@dataclass(frozen=True, slots=True)
class Label:
    """What stands before a value.

    Attributes:
        kind: entity type.
        phrase: the words that decided, in small letters.
        is_marked: whether a word says that a number follows ("no.", "ID", "#").
        is_said: the same, or a colon or an equals sign.
        is_listed: whether the phrase is in the list; otherwise it is any noun behind a mark.
    """

    kind: str
    phrase: str
    is_marked: bool
    is_said: bool
    is_listed: bool


def find_labelled(text: str) -> Iterator[Finding]:
    """Yield values with their label's type, score 0.65 to 0.9; fields of HL7 messages as well.

    Args:
        text: a folded view.
    """
    yield from find_hl7(text)
    for match in _VALUE.finditer(text):
        start, end = match.span()
        value = match[0]
        count = sum(map(str.isdecimal, value))
        if count < 2:
            continue
        label = read_label(text[max(0, start - _REACH) : start])
        if label is None and (prefix := _PREFIX.search(text, max(0, start - 4), start)):
            # "license no. RN 589928": the letters are a part of the value.
            start = prefix.start()
            label = read_label(text[max(0, start - _REACH) : start])
        if label is None and (head := _HEAD.match(value)) and head[1].lower() in _KINDS and count >= 4:
            # "MRN-00482913", "Acct:55123": the label is a part of the word.
            label = Label(_KINDS[head[1].lower()], head[1].lower(), True, True, True)
        if (
            label is None
            or not _is_value(label, value, count)
            or (count == 4 and label.kind != "SSN" and _YEAR.fullmatch(value))
        ):
            continue
        strong = label.kind in _STRONG_KINDS or label.phrase in _STRONG
        yield Finding(start, end, label.kind, 0.9 if strong or label.is_marked else 0.65, f"label.{label.kind.lower()}")


def _is_value(label: Label, value: str, count: int) -> bool:
    if label.phrase in _COMMON:
        return label.is_said and count >= 5
    if not label.is_listed:
        return count >= 5 or (count >= 3 and any(map(str.isalpha, value)) and len(value) >= 5)
    strong = label.kind in _STRONG_KINDS or label.phrase in _STRONG
    # A series ("ticket TCK-99812") announces itself: capitals, a mark, and at least four digits.
    is_code = (
        count >= 8 or _SERIES.fullmatch(value) is not None or (count >= 6 and _GROUPED.fullmatch(value) is not None)
    )
    if not label.is_said and not (count >= 4 and (strong or is_code)):
        return False
    if count >= 4 or (strong and len(value) >= 6 and any(map(str.isalpha, value))):
        return True
    return label.is_marked and (count >= 3 or label.kind in ("CASE_NUMBER", "OTHER_ID"))


def read_label(before: str) -> Label | None:
    """The label at the very end of ``before``, or None.

    Args:
        before: up to about 50 characters that end where the value begins.
    """
    rest = before.rstrip()
    if len(before) - len(rest) > 4:
        return None
    is_said = is_marked = False
    mark = ""
    for _ in range(4):
        bare = rest.rstrip(":=#,(-–")
        stripped = rest[len(bare) :]
        if len(stripped) > 3:
            return None
        if stripped:
            is_said = is_said or any(c in stripped for c in ":=#")
            is_marked = is_marked or "#" in stripped
            rest = bare.rstrip()
        if rest.endswith(")") and (opened := rest.rfind("(", max(0, len(rest) - 14))) > 0:
            rest = rest[:opened].rstrip()
        head, word = _last(rest)
        if word in _LINKS:
            rest = head
        elif word in _MARKS and (not mark or (word in _IDS and mark not in _IDS)):
            mark = word
            found = _phrase(rest)
            if found is not None and found != word:
                return Label(_KINDS[found], found, True, True, True)
            is_said = True
            is_marked = True
            before_mark = _last(head)[1]
            if word in _IDS and (not before_mark or (before_mark not in _NO_LABELS and _phrase(head) is None)):
                return Label("OTHER_ID", word, True, True, word.startswith("id") and len(word) < 4)
            rest = head
        else:
            break
    found = _phrase(rest)
    if found is not None:
        return Label(_KINDS[found], found, is_marked, is_said, True)
    noun = _last(rest)[1]
    if is_marked and len(noun) >= 3 and noun.isalpha() and noun not in _NO_LABELS:
        return Label("OTHER_ID", noun, True, True, False)
    return None


def _last(text: str) -> tuple[str, str]:
    """Text before its last word, and that word in small letters without its dot; the word is empty at a line's head."""
    end = len(text.rstrip("."))
    begin = end
    while begin > 0 and end - begin < 24 and (text[begin - 1].isalnum() or text[begin - 1] in "/'’-_°º№"):
        begin -= 1
    head = text[:begin].rstrip(" \t")
    return head, text[begin:end].lower().replace("’", "'")


def _phrase(text: str) -> str | None:
    """The longest listed phrase of at most three words at the end of ``text``."""
    words: list[str] = []
    rest = text
    for _ in range(3):
        rest, word = _last(rest)
        if not word:
            break
        words.insert(0, word)
    for count in range(len(words), 0, -1):
        phrase = " ".join(words[-count:])
        if phrase in _KINDS:
            return phrase
        single = phrase.removesuffix("'s").removesuffix("s")
        if single in _KINDS:
            return single
    return None
