"""Profiles: what is redacted, how sure the detector must be, what happens to it, and on what legal ground.

Guarantees: an unknown key, type, operator or check is an error that names the file and the key; two profiles with the
same
``digest`` treat every text alike (with the same code and tagger).
Does not: hold keys or secrets.

Example:
    >>> load_profile("healthcare").entities["SSN"].operator
    'surrogate'
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import regex

from compliance.redaction.checksums import CHECKS
from compliance.redaction.contradictions import found_in
from compliance.redaction.errors import ProfileError
from compliance.redaction.kinds import KINDS
from compliance.redaction.national import SUPPORTED
from compliance.redaction.reidentification import Limits

SCHEMA = "steward.redaction.profile/1"
SHIPPED = Path(__file__).parent / "profiles"
OPERATORS = frozenset({"placeholder", "surrogate", "mask", "hash", "date_shift", "generalise", "keep"})
ENTITY_TYPES = frozenset(
    [
        "PERSON", "LOCATION", "ADDRESS", "ZIP", "ORGANIZATION", "DATE", "TIME", "AGE", "PHONE", "FAX", "EMAIL",
        "SSN", "TAX_ID", "NATIONAL_ID", "MRN", "HEALTH_PLAN", "ACCOUNT", "IBAN", "BIC", "ROUTING", "CARD",
        "CARD_SECRET", "LICENSE", "NPI", "DEA", "PASSPORT", "DRIVER_LICENSE", "VEHICLE", "DEVICE", "URL", "IP",
        "MAC", "BIOMETRIC", "PHOTO", "CASE_NUMBER", "BATES", "USERNAME", "SECRET", "OTHER_ID", "NATIONALITY",
        "PROFESSION", "FAMILY", "MONEY", "QUASI", "PRIVILEGE",
    ]
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EntityPolicy:
    """How one entity type is treated.

    Attributes:
        on: whether it is looked for at all.
        threshold: least score in [0, 1] for a span to count.
        operator: one of ``OPERATORS``.
        reason: why, in one sentence.
        citation: the paragraph that asks for it.
        options: settings of the detector or operator for this type; see the operators.
        is_reversible: whether each original is sealed and given back beside its replacement (``reversible = true``).
    """

    on: bool
    threshold: float
    operator: str
    reason: str
    citation: str
    options: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    is_reversible: bool = False


@dataclass(frozen=True, slots=True)
class PatternSpec:
    """A recogniser of the profile's own: a regular expression, a base score, context words that raise it, a check."""

    name: str
    type: str
    regex: str
    score: float
    context: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    check: str = ""


@dataclass(frozen=True)
class Profile:
    """A redaction policy. ``tagger`` and ``memory`` switch recognisers; ``presidio`` names some of Presidio's.

    Attributes:
        keep_public_bodies: look for institutions and unexplained names as well, but keep bodies named only by rank
        and subject.
        max_chars: longest document that is examined; a longer one is refused.
        tagger_least: for each kind of the tagger, and as ``default`` for the others, the least probability, in (0, 1),
        that makes a span count; it then scores 0.5.
        tagger_least_elsewhere: the same for texts that are no papers of a case, where they differ.
        seconds_per_document: time budget for the rules of one document, beside 1 s for each 20,000 characters.
        allow: words or phrases never masked (case ignored).
        deny: words or phrases always masked, phrase -> type.
        limits: how far structured columns may single people out; whoever approves a data set holds it to them.
    """

    name: str
    version: str
    title: str
    basis: str
    entities: MappingProxyType[str, EntityPolicy]
    patterns: tuple[PatternSpec, ...] = ()
    tagger: bool = True
    memory: bool = True
    keep_public_bodies: bool = False
    presidio: tuple[str, ...] = ()
    max_chars: int = 2_000_000
    seconds_per_document: float = 20.0
    tagger_least: MappingProxyType[str, float] = field(default_factory=lambda: MappingProxyType({"default": 0.5}))
    tagger_least_elsewhere: MappingProxyType[str, float] = field(default_factory=lambda: MappingProxyType({}))
    allow: tuple[str, ...] = ()
    deny: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))
    limits: Limits = field(default_factory=Limits)

    def to_json(self) -> dict[str, Any]:
        """The whole policy as plain data; scores as integers in ppm, so that it can be digested canonically."""
        # Left out where there are none, so that the digest of a profile without limits stays what it was.
        limits = {"reidentification": _in_ppm(asdict(self.limits))} if self.limits.is_set else {}
        return limits | {
            "schema": SCHEMA,
            **{k: getattr(self, k) for k in _TOP_TEXT + _SWITCHES},
            "presidio": list(self.presidio),
            "max_chars": self.max_chars,
            "tagger_least": _in_ppm(dict(self.tagger_least)),
            "tagger_least_elsewhere": _in_ppm(dict(self.tagger_least_elsewhere)),
            "milliseconds_per_document": round(self.seconds_per_document * 1000),
            "allow": list(self.allow),
            "deny": dict(self.deny),
            "entities": {name: _policy_json(policy) for name, policy in sorted(self.entities.items())},
            "patterns": [
                _in_ppm({**asdict(p), "context": list(p.context), "against": list(p.against)}) for p in self.patterns
            ],
        }

    def without_tagger(self) -> Profile:
        """The same policy by rules alone."""
        return replace(self, tagger=False)

    @cached_property
    def is_reversible(self) -> bool:
        """Whether a type that is on asks for sealed originals."""
        return any(policy.on and policy.is_reversible for policy in self.entities.values())

    @cached_property
    def digest(self) -> str:
        """``sha256:`` and the hex digest over the sorted, compact JSON of the policy."""
        body = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(body.encode()).hexdigest()


_TOP_TEXT = ("name", "version", "title", "basis")
_SWITCHES = ("tagger", "memory", "keep_public_bodies")
_TOP = {"schema", *_TOP_TEXT, "detection", "entities", "pattern", "allow", "deny", "reidentification"}
_COUNTS = ("k_min", "l_min", "small_cells")
_RISKS = ("max_risk", "average_risk")
_NUMBERS = ("max_chars", "seconds_per_document")
_LEASTS = ("tagger_least", "tagger_least_elsewhere")
_DETECTION = {*_SWITCHES, *_NUMBERS, *_LEASTS, "presidio"}
_ENTITY = {"on", "threshold", "operator", "reason", "citation", "options", "reversible"}
_PATTERN = {"name", "type", "regex", "score", "context", "against", "check"}
_OPTIONS = {
    "min_age",
    "oldest_year",
    "keep",
    "zip3_restricted",
    "zip3_as_of",
    "to",
    "char",
    "day_first",
    "window_days",
    "leave_last",
    "leave_first",
    "include_title",
}


def load_profile(name_or_path: str | Path) -> Profile:
    """Read a shipped profile by name (``healthcare``, ``finance``, ``legal``) or any profile by path.

    Raises:
        ProfileError: not there, not TOML, or a key, type, operator, check or value that is not known.
    """
    path = SHIPPED / f"{name_or_path}.toml"
    if not (isinstance(name_or_path, str) and name_or_path.isidentifier() and path.is_file()):
        path = Path(name_or_path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProfileError(f"no profile at {path.name!r}; shipped: {', '.join(available_profiles())}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"{path.name}: not readable as TOML ({type(error).__name__})") from error
    return parse_profile(data, source=path.name)


def available_profiles() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def parse_profile(data: dict[str, Any], source: str = "profile") -> Profile:
    """Check plain data and build the profile.

    Args:
        data: the parsed TOML.
        source: what errors call it.

    Raises:
        ProfileError: see ``load_profile``.
    """
    _known(data, _TOP, source)
    if data.get("schema") != SCHEMA:
        raise ProfileError(f"{source}: schema must be {SCHEMA!r}")
    detection = data.get("detection", {})
    _known(detection, _DETECTION, f"{source}: detection")
    entities = {}
    for name, table in _value(data, "entities", dict, source).items():
        where = f"{source}: entities.{name}"
        if name not in ENTITY_TYPES:
            raise ProfileError(f"{where}: unknown entity type")
        entities[name] = _policy(name, table, where)
    recognisers = detection.get("presidio", [])
    if unknown := [name for name in recognisers if name not in SUPPORTED]:
        raise ProfileError(
            f"{source}: detection.presidio: unknown recogniser {unknown[0]!r}; known: {', '.join(sorted(SUPPORTED))}"
        )
    deny = data.get("deny", {})
    if unknown := [v for v in deny.values() if v not in entities]:
        raise ProfileError(f"{source}: deny names the type {unknown[0]!r}, which entities does not have")
    return Profile(
        **{key: _value(data, key, str, source) for key in _TOP_TEXT},
        **{key: _value(detection, key, bool, source) for key in _SWITCHES if key in detection},
        **{key: detection[key] for key in _NUMBERS if key in detection},
        tagger_least=_leasts(detection, "tagger_least", source, default=0.5),
        tagger_least_elsewhere=_leasts(detection, "tagger_least_elsewhere", source),
        presidio=tuple(recognisers),
        entities=MappingProxyType(entities),
        patterns=tuple(
            _pattern(p, entities, f"{source}: pattern {i}") for i, p in enumerate(data.get("pattern", []), 1)
        ),
        allow=tuple(data.get("allow", ())),
        deny=MappingProxyType(dict(deny)),
        limits=_limits(data.get("reidentification", {}), f"{source}: reidentification"),
    )


def _limits(table: dict[str, Any], where: str) -> Limits:
    _known(table, {*_COUNTS, *_RISKS}, where)
    counts = {name: _value(table, name, int, where) for name in _COUNTS if name in table}
    risks: dict[str, Any] = {name: float(_value(table, name, (int, float), where)) for name in _RISKS if name in table}
    if any(count < 0 for count in counts.values()) or any(not 0 < risk <= 1 for risk in risks.values()):
        raise ProfileError(f"{where}: a count is not negative, and a risk lies above 0 and at most at 1")
    return Limits(**counts, **risks)


def _leasts(
    detection: dict[str, Any], key: str, source: str, default: float | None = None
) -> MappingProxyType[str, float]:
    where, table = f"{source}: detection.{key}", detection.get(key, {})
    _known(table, {"default", *KINDS}, where)
    values = {} if default is None else {"default": default}
    values |= {kind: float(_value(table, kind, (int, float), where)) for kind in table}
    if any(not 0 < value < 1 for value in values.values()):
        raise ProfileError(f"{where}: a probability must lie between 0 and 1, both excluded")
    if values and "default" not in values:
        raise ProfileError(f"{where}: 'default' is missing")
    return MappingProxyType(values)


def _policy(name: str, table: dict[str, Any], where: str) -> EntityPolicy:
    _known(table, _ENTITY, where)
    options = table.get("options", {})
    _known(options, _OPTIONS, f"{where}.options")
    policy = EntityPolicy(
        on=_value(table, "on", bool, where),
        threshold=float(_value(table, "threshold", (int, float), where)),
        operator=_value(table, "operator", str, where),
        reason=_value(table, "reason", str, where),
        citation=_value(table, "citation", str, where),
        options=MappingProxyType(options),
        is_reversible=_value(table, "reversible", bool, where) if "reversible" in table else False,
    )
    if policy.operator not in OPERATORS:
        raise ProfileError(f"{where}: unknown operator {policy.operator!r}; known: {', '.join(sorted(OPERATORS))}")
    if not 0 <= policy.threshold <= 1:
        raise ProfileError(f"{where}: threshold must lie between 0 and 1")
    if contradiction := found_in(name, policy.operator, options, is_reversible=policy.is_reversible):
        raise ProfileError(f"{where}: {contradiction}")
    if not policy.reason or not policy.citation:
        raise ProfileError(f"{where}: reason and citation must not be empty")
    return policy


def _pattern(table: dict[str, Any], entities: dict[str, EntityPolicy], where: str) -> PatternSpec:
    _known(table, _PATTERN, where)
    spec = PatternSpec(
        name=_value(table, "name", str, where),
        type=_value(table, "type", str, where),
        regex=_value(table, "regex", str, where),
        score=float(_value(table, "score", (int, float), where)),
        context=tuple(table.get("context", ())),
        against=tuple(table.get("against", ())),
        check=table.get("check", ""),
    )
    if spec.type not in entities:
        raise ProfileError(f"{where}: type {spec.type!r} is not among this profile's entities")
    if spec.check and spec.check not in CHECKS:
        raise ProfileError(f"{where}: unknown check {spec.check!r}; known: {', '.join(sorted(CHECKS))}")
    try:
        regex.compile(spec.regex)
    except regex.error as error:
        raise ProfileError(f"{where}: not a regular expression: {error}") from error
    return spec


def _known(table: dict[str, Any], keys: set[str], where: str) -> None:
    if not isinstance(table, dict):
        raise ProfileError(f"{where}: must be a table")
    if unknown := sorted(set(table) - keys):
        raise ProfileError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(keys))}")


def _value(table: dict[str, Any], key: str, kind: Any, where: str) -> Any:
    value = table.get(key)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ProfileError(f"{where}: {key!r} is missing or of the wrong type")
    return value


def _policy_json(policy: EntityPolicy) -> dict[str, Any]:
    names = ("on", "threshold", "operator", "reason", "citation")
    table = _in_ppm({**{n: getattr(policy, n) for n in names}, "options": dict(policy.options)})
    # Left out where it is not asked for, so that the digest of a profile without it stays what it was.
    return table | {"reversible": True} if policy.is_reversible else table


def _in_ppm(table: dict[str, Any]) -> dict[str, Any]:
    return {
        (f"{k}_ppm" if isinstance(v, float) else k): (round(v * 1e6) if isinstance(v, float) else v)
        for k, v in table.items()
    }
