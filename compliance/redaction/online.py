# ruff: noqa: E501 - a pattern or a word list is read in one piece
"""Rules for what names a person, a device or a file in a network: mail and web addresses, accounts, hosts, files, biometric templates.

Guarantees: mail addresses are found in the forms by which people hide them from machines ("jane dot roe at example dot org"); a host keeps
its port; an account name counts only behind a word that announces it.
Does not: find an account name in running text.

Source: RFC 5322 and RFC 6531 (mail addresses), RFC 3986 (URLs), RFC 791 and RFC 4291 (hosts), RFC 9562 (UUIDs).

Example:
    >>> from compliance.redaction.rules import apply_rules
    >>> text = "Login jroe92 from 203.0.113.7:8080, or jane dot roe at example dot org."
    >>> sorted(text[f.start:f.end] for f in apply_rules(ONLINE, text, float("inf")))
    ['203.0.113.7:8080', 'jane dot roe at example dot org', 'jroe92']
"""

from __future__ import annotations

import re

from compliance.redaction import checksums as check
from compliance.redaction.rules import Rule
from compliance.redaction.vocabulary import is_function_word, is_word

_TLD = (
    "com|org|net|edu|gov|mil|int|info|biz|io|co|ai|app|dev|health|law|bank|eu|us|uk|de|fr|es|it|nl|be|ch|at|se|no|dk|fi|pl|cz|sk|hu|"
    "ro|bg|gr|pt|ie|ca|au|nz|br|mx|ar|cl|in|cn|jp|kr|sg|za|tr|ru|ua|il|is|ee|lv|lt|si|hr|rs|lu|li|cy|mt"
)
_AT = r"\s?(?:[\[({<]\s?(?:at|@)\s?[\])}>]|\bat\b|@)\s?"
_DOT = r"\s?(?:[\[({<]\s?(?:dot|\.)\s?[\])}>]|\bdot\b|\.)\s?"
_BODY_PART = (
    r"(?:(?:finger|thumb|voice|palm|foot|ear|hand|face|lip)[ -]?prints?|palm[ -]?veins?|veins?|retinal?|iris|fac(?:e|ial)(?:[ -](?:id|recognition|geometry))?|"
    r"hand geometry|gait|dna|genetic|genomic|biometrics?|speaker|voice|dental|keystroke)"
)
_RECORD = r"(?:scan|templates?|id|file|record|hash|data|code|recognition|ref(?:erence)?|profile|image|sample|pattern|signature|key|vector|embedding|enrol?lment|identifier|number|no\.?|num\.?|#)"
_HIDDEN = re.compile(r"(?:\bat\b|[\[({<]\s?@)", re.I)


def _is_account(value: str) -> bool:
    """Whether a word behind "login" or "user" is a name rather than the next word of the sentence."""
    return any(c.isdecimal() or c in "_.@" for c in value.rstrip(".")) or not (
        is_word(value) or is_function_word(value)
    )


def _is_mixed(value: str) -> bool:
    return any(map(str.isdecimal, value)) and any(map(str.isalpha, value))


ONLINE: tuple[Rule, ...] = (
    Rule("email", "EMAIL", re.compile(r"(?<![\w.%+-])[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,6}[A-Za-z]{2,24}\b"), 1.0, needs="@", near=re.compile("@"), reach=66),
    Rule(
        "email.spoken",
        "EMAIL",
        re.compile(rf"(?<![\w.])[\w-]{{1,40}}(?:{_DOT}[\w-]{{1,40}}){{0,3}}{_AT}[\w-]{{2,40}}(?:{_DOT}[\w-]{{2,40}}){{0,2}}{_DOT}(?:com|org|net|edu|gov|co|uk|health|us|eu|de|fr|ca)\b", re.I),
        0.85,
        check=lambda value: _HIDDEN.search(value) is not None and not re.search(r"\bat\s\d|\.\s", value, re.I),
any_of=(" dot ", "(dot", "[dot", "{dot", "<dot", "(at", "[at", "{at", "<at", "( at", "[ at", "(@", "[@", "( @", "[ @", ".com", ".org", ".net", ".edu", ".gov"),
    ),
    Rule("url.scheme", "URL", re.compile(r"\b(?:https?|ftp|sftp)://[^\s<>\"'\])}]{1,300}[^\s<>\"'\])}.,;:!?]", re.I), 1.0, needs=":"),
    Rule("url.www", "URL", re.compile(r"\bwww\.[^\s<>\"'\])}]{1,300}[^\s<>\"'\])}.,;:!?]", re.I), 1.0, needs="."),
    Rule(
        "url.bare",
        "URL",
        re.compile(rf"(?<![\w@./-])(?:[A-Za-z0-9][A-Za-z0-9-]{{1,40}}\.){{1,3}}(?:{_TLD})(?:/[^\s<>\"']{{0,200}})?(?![\w@])"),
        0.7,
        needs=".",
        check=lambda value: not value.lower().startswith("st.dev"), near=re.compile(rf"\.(?:{_TLD})(?![\w@])"), reach=130),
    Rule("ip.v4", "IP", re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2}|:\d{2,5})?(?![\w]|\.\d)"), 0.95, check=check.ip, needs="0"),
    Rule("ip.v6", "IP", re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?:/\d{1,3})?(?![\w:])"), 0.95, check=check.ip, needs=":", near=re.compile(r":[0-9A-Fa-f]{0,4}:"), reach=6),
    Rule("mac", "MAC", re.compile(r"\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b|\b(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4}\b"), 0.95, near=re.compile(r"[:-][0-9A-Fa-f]{2}[:-]|\.[0-9A-Fa-f]{4}\."), reach=6),
    Rule("uuid", "OTHER_ID", re.compile(r"(?<![\w-])[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![\w-])"), 0.95, needs="-", near=re.compile(r"-[0-9A-Fa-f]{4}-"), reach=10),
    Rule("hex.digest", "OTHER_ID", re.compile(r"(?<![\w-])(?:[0-9a-f]{24,128}|[0-9A-F]{24,128})(?![\w-])"), 0.6, check=_is_mixed, needs="0", starts="code"),
    Rule(
        "photo.file",
        "PHOTO",
        re.compile(
            r"(?<![\w./-])(?:(?:scan|img|image|photo|picture|pic|dsc|screenshot|face|headshot|portrait|selfie|mugshot|x-?ray)[ ](?=[\w-]{1,4}\.))?[\w-]{2,60}(?:\([\w ]{1,6}\))?\.(?:jpe?g|png|heic|heif|webp|tiff?|bmp|dcm|gif|avif|raw|cr2|nef)\b",
            re.I,
        ),
        0.8,
        needs=".", near=re.compile(r"\.(?:jpe?g|png|heic|heif|webp|tiff?|bmp|dcm|gif|avif|raw|cr2|nef)\b", re.I), reach=90),
    Rule("photo.label", "PHOTO", re.compile(r"\b(?:photo(?:graph)?|picture|portrait|headshot|mug ?shot|image|selfie)s?[ ](?:file|id|no\.?|number|ref(?:erence)?|#)[ :=#]{0,3}(?P<v>(?=[\w-]{0,40}\d)[A-Za-z0-9][\w-]{3,40})(?!\.\w)", re.I), 0.75, needs="0"),
    Rule(
        "biometric.label",
        "BIOMETRIC",
        re.compile(
            rf"\b(?:(?:finger|thumb|voice|palm|foot|ear|face)[ -]?prints?\b(?:[ ]{_RECORD}){{0,3}}|{_BODY_PART}(?:[ ]{_RECORD}){{1,3}})(?:[ ]is)?[ :=#(]{{1,3}}(?P<v>(?=[\w./-]{{0,80}}\d)[A-Za-z0-9](?:[\w/-]|\.(?=\w)){{3,80}})",
            re.I,
        ),
        0.85,
        needs="0",
    ),
    Rule("username.handle", "USERNAME", re.compile(r"(?<![\w@./-])@[A-Za-z_]\w{2,30}(?![\w@]|\.\w)"), 0.75, needs="@"),
    Rule(
        "username.label",
        "USERNAME",
        re.compile(
            r"\b(?:(?:user ?name|user[ -]?id|login(?: name| id)?|log-?in|screen ?name|(?:twitter|instagram|facebook|skype|tiktok|snapchat|telegram|signal|venmo|paypal)(?: (?:handle|name|account|id))?|handle|nickname)"
            r"(?: is|:|=| as|\s#)?[ ]{0,2}|(?:user|usr|uid|account name|signed in as|logged in as|screen name)(?: is|:|=)[ ]{0,2}|(?:signed|logged)[ -]in as[ ])(?P<v>@?[A-Za-z][\w.-]{2,40}(?<![.-]))",
            re.I,
        ),
        0.75,
        check=_is_account,
    ),
    Rule(
        "secret.label",
        "SECRET",
        re.compile(r"\b(?:pass(?:word|code|phrase)|passwd|pwd|api[ _-]?key|secret key|access token|auth token|bearer)\b(?: is|:|=| was)[ ]{0,2}[\"']?(?P<v>[^\s\"'<>]{4,128})", re.I),
        0.85,
        check=lambda value: not value.rstrip(".,;").isalpha() or not is_word(value.rstrip(".,;")),
    ),
    Rule(
        "geo.decimal",
        "LOCATION",
        re.compile(r"(?<![\w.])[-+]?\d{1,2}\.\d{4,8}°?[ ]?[NS]?(?:,[ ]?|[ ]{1,2}|;[ ]?|/)[-+]?\d{1,3}\.\d{4,8}°?(?:[ ]?[EW]\b)?(?![\w.]\d|\w)"),
        0.8,
        check=lambda value: _is_on_earth(value),
        needs=".",
    ),
    Rule("geo.degrees", "LOCATION", re.compile(r"(?<![\w.])\d{1,2}°[ ]?\d{1,2}['′’][ ]?(?:\d{1,2}(?:\.\d{1,4})?(?:\"|″|”|'')[ ]?)?[NS],?[ ]{0,2}\d{1,3}°[ ]?\d{1,2}['′’][ ]?(?:\d{1,2}(?:\.\d{1,4})?(?:\"|″|”|'')[ ]?)?[EW]\b"), 0.9, needs="°"),
)  # fmt: skip


def _is_on_earth(value: str) -> bool:
    numbers = [float(n) for n in re.findall(r"[-+]?\d+\.\d+", value)]
    return len(numbers) == 2 and abs(numbers[0]) <= 90 and abs(numbers[1]) <= 180
