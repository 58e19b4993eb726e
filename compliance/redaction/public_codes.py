# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""What looks like an identifier and is none: codes that everybody shares, laboratory values, vertebrae, securities.

Guarantees: a span is reported only behind the name of its coding system, of an analyte or of a measure, or where its own form and check
digits are those of a security; everything inside such a span is kept.
Does not: judge numbers without such a lead; those stay with the rules and the tagger.

Source: FDA 21 CFR 207 (NDC), WHO ICD-10, AMA CPT, Regenstrief LOINC, ISO 6166 (ISIN), ANSI X9.6 (CUSIP), HGVS / dbSNP (rs numbers).

Example:
    >>> text = "NDC 0002-8215-01, bought US0378331005, Na 138"
    >>> is_public_code(text, 4, 16), is_public_code(text, 25, 37), is_public_code(text, 42, 45)
    (True, True, True)
"""

from __future__ import annotations

import re

from compliance.redaction.checksums import COUNTRIES
from compliance.redaction.country_checks import cusip, isin

_SYSTEM = (
    r"(?:NDC|CPT|HCPCS|ICD(?:-?(?:9|10|11|O))?(?:-?(?:CM|PCS))?|LOINC|SNOMED(?:[ -]?CT)?|RxNorm|RxCUI|UNII|CVX|MVX|DRG|MS-DRG|APC|OMIM|ATC|DSM(?:-?(?:IV|V|5))?|"
    r"PMID|PMC|DOI|NCT|ISBN(?:-1[03])?|ISSN|CAS|CUSIP|SEDOL|ISIN|SIC|NAICS|GTIN|UPC|EAN|HTS|ECCN|rev(?:enue)? code|procedure code|diagnosis code|billing code)"
)
_CODE = r"[A-Z]{0,3}\d[\dA-Z]{0,9}(?:[.-][\dA-Z]{1,6}){0,3}"
_ANALYTE = (
    r"(?:Na|K|Cl|CO2|HCO3|BUN|Cr|Creat(?:inine)?|Glu(?:cose)?|Ca|Mg|Phos|WBC|RBC|Hgb|HGB|Hb|Hct|HCT|Plt|PLT|MCV|INR|PT|PTT|aPTT|AST|ALT|ALP|GGT|LDH|TSH|FT4|T3|T4|A1c|A1C|HbA1c|LDL|HDL|"
    r"TG|ESR|CRP|BNP|NT-proBNP|CK|CPK|CK-MB|PSA|CEA|AFP|pH|pO2|pCO2|PaO2|PaCO2|FiO2|SpO2|SaO2|O2|BP|HR|RR|T|Temp|Tmax|Wt|Ht|BMI|EF|LVEF|eGFR|GFR|MAP|CVP|PEEP|TV|FEV1|FVC|CD4|ANC|"
    r"[Ss]odium|[Pp]otassium|[Cc]hloride|[Cc]alcium|[Mm]agnesium|[Hh]emoglobin|[Hh]ematocrit|[Pp]latelets?|[Tt]roponin|[Ll]actate|[Ff]erritin|[Bb]ilirubin|[Aa]lbumin|[Tt]rough|[Gg]leason|GCS|Apgar|APACHE|SOFA|MMSE|PHQ-?9|GAD-?7|"
    r"[Bb]lood pressure|[Pp]ulse|[Hh]eart rate|[Tt]emperature|[Ww]eight|[Hh]eight|[Rr]espirations?|[Rr]ate)"
)
_VALUE = r"\d{1,3}(?:,\d{3}|\d{0,3})(?:\.\d{1,3})?(?:/\d{1,3})?%?"

_LED = re.compile(
    rf"(?<![\w-])(?:(?i:{_SYSTEM})(?:[ ](?i:code|no\.?|number|#))?[ :#]{{0,2}}{_CODE}(?:,[ ]?[A-Z]\d{{1,2}}(?:\.\d{{1,3}})?){{0,4}}"
    rf"|{_ANALYTE}(?:[ ](?:of|is|was))?[ :=]{{1,2}}{_VALUE}"
    r"|(?:[CTLS]\d{1,2})(?:[-/][CTLS]?\d{1,2}){1,3}|rs\d{4,12}|(?:NCT|PMC)\d{6,9})(?![\w-]|[./]\d)"
)
_SECURITY = re.compile(r"[A-Z]{2}[A-Z0-9]{9}\d|[0-9]{3}[0-9A-Z*@#]{5}\d")
# Beside the countries of ISO 3166: international securities.
_ISSUERS = COUNTRIES | {"XS", "EU", "KY", "BM", "JE", "GG", "IM", "AN", "CW", "LR", "MH", "PA", "PR"}
_REACH = 32


def is_public_code(text: str, start: int, end: int) -> bool:
    """Whether the span is, or lies inside, such a code or value.

    Args:
        text: a folded view.
        start: begin of the span.
        end: its end.
    """
    value = text[start:end]
    if not any(map(str.isdecimal, value)):
        return False
    if _SECURITY.fullmatch(value) and ((isin(value) and value[:2] in _ISSUERS) or (cusip(value) and "CUSIP" in text)):
        return True
    for match in _LED.finditer(text, max(0, start - _REACH), min(len(text), end + _REACH)):
        if match.start() <= start and end <= match.end():
            return True
    return False
