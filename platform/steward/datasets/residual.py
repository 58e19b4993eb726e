"""How much a redaction may still miss, from the sample that people reviewed.

Guarantees an upper confidence bound that holds whatever the detector did, since it rests on a random sample of each
stratum and human verdicts only; a record counts as missed as long as any reading says so and nobody adjudicated.
What was withheld as privileged is no part of the sample, nor of what the bound speaks of.
Does not see what every reader overlooks, nor allow for drawing again after a look at the bound: `rounds` says how
often that was done.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from compliance.redaction.residual import Stratum, cohen_kappa
from compliance.redaction.stratified import still_needed, stratified_bound
from steward.datasets.models import Reading, ReadingKind, RedactionRun, SampleItem, Verdict
from steward.datasets.sampling import DOUBTFUL, OTHER, populations

STRATUM_TITLES = {DOUBTFUL: "Doubtful findings", OTHER: "All others"}
UNSPECIFIED = "UNSPECIFIED"


@dataclass(frozen=True, slots=True)
class TypeRisk:
    """Of one entity type: reviewed records with a miss, missed identifiers, and the bound on records (0 to 1)."""

    name: str
    records: int
    identifiers: int
    upper_bound: float

    @property
    def bound_per_1000(self) -> float:
        return 1000 * self.upper_bound


@dataclass(frozen=True, slots=True)
class SecondReadings:
    """Blind second readings: how many are wanted and given, on how many records both readers agree, and how well."""

    wanted: int
    given: int
    agreed: int
    kappa: float | None
    open_disagreements: int


@dataclass(frozen=True, slots=True)
class ResidualRisk:
    """State of the review: records drawn, reviewed, with a miss, and the bound on records with a miss (0 to 1).

    `still_needed` is how many more records must be reviewed without a further miss until an approval is possible; None
    if no review can make it so.
    """

    drawn: int
    reviewed: int
    missed: int
    upper_bound: float
    confidence_percent: int
    is_enough: bool
    allowed_per_1000: int
    needed: int
    still_needed: int | None
    rounds: int
    strata: list[Stratum]
    second: SecondReadings
    estimate: float = 0.0
    identifiers_per_1000: float = 0.0
    by_type: list[TypeRisk] = field(default_factory=list)
    other_types_bound: float = 1.0

    @property
    def bound_per_1000(self) -> float:
        return 1000 * self.upper_bound

    @property
    def estimate_per_1000(self) -> float:
        return 1000 * self.estimate

    @property
    def other_types_bound_per_1000(self) -> float:
        return 1000 * self.other_types_bound

    @property
    def to_draw(self) -> int:
        """Records to draw now, so that enough wait for a reviewer."""
        return max(0, (self.still_needed or 0) - (self.drawn - self.reviewed))

    @property
    def shown_strata(self) -> list[tuple[str, Stratum]]:
        return [(STRATUM_TITLES[each.name], each) for each in self.strata]

    def as_json(self) -> dict[str, Any]:
        """What is kept with a decision; `releases.evidence` computes the bound from it again."""
        return {
            "sample_size": self.reviewed,
            "missed": self.missed,
            "upper_bound_ppm": round(1_000_000 * self.upper_bound),
            "confidence_percent": self.confidence_percent,
            "rounds": self.rounds,
            "strata": [
                {
                    "name": each.name,
                    "population": each.population,
                    "sample_size": each.sample_size,
                    "missed": each.misses,
                }
                for each in self.strata
            ],
            "missed_by_type": {each.name: each.identifiers for each in self.by_type},
            "read_twice": self.second.given,
            "open_disagreements": self.second.open_disagreements,
            "kappa_ppm": None if self.second.kappa is None else round(1_000_000 * self.second.kappa),
        }


def residual_risk(run: RedactionRun) -> ResidualRisk:
    """The bound that the verdicts given so far allow, against the workspace's policy."""
    policy = run.workspace.rules
    confidence = policy["confidence_percent"] / 100
    items = list(
        SampleItem.objects.filter(run=run)
        .countable()
        .values_list("verdict", "redacted__is_doubtful", "missed_types", "round")
    )
    reviewed = [item for item in items if item[0]]
    missed = [item for item in reviewed if item[0] == Verdict.MISSED]
    strata = [
        Stratum(
            name,
            population,
            sum(item[1] == (name == DOUBTFUL) for item in reviewed),
            sum(item[1] == (name == DOUBTFUL) for item in missed),
        )
        for name, population in populations(run).items()
    ]
    needed = min(policy["sample_size_min"], sum(each.population for each in strata))
    allowed = policy["missed_per_1000_max"]
    bound = stratified_bound(strata, confidence) if reviewed else 1.0
    second = second_readings(run)
    more = still_needed(strata, allowed / 1000, DOUBTFUL, confidence, at_least=needed) if strata else 0
    return ResidualRisk(
        drawn=len(items),
        reviewed=len(reviewed),
        missed=len(missed),
        upper_bound=bound,
        confidence_percent=policy["confidence_percent"],
        is_enough=len(reviewed) >= needed and 1000 * bound <= allowed and second.given >= second.wanted,
        allowed_per_1000=allowed,
        needed=needed,
        still_needed=more,
        rounds=max((item[3] for item in items), default=0),
        strata=strata,
        second=second,
        estimate=_estimate(strata, [each.misses for each in strata]),
        identifiers_per_1000=1000 * _identifiers(strata, missed),
        by_type=_by_type(strata, missed, confidence),
        other_types_bound=stratified_bound([_with(each, 0) for each in strata], confidence) if reviewed else 1.0,
    )


def second_readings(run: RedactionRun) -> SecondReadings:
    """How the blind second readings of a run's sample agree with the first."""
    twice = SampleItem.objects.filter(run=run, is_read_twice=True).countable()
    wanted = twice.filter(redacted__record__subject__wrapped__isnull=False).count()
    readings = Reading.objects.standing().filter(item__in=twice)
    found: dict[Any, dict[str, bool]] = {}
    for item, kind, verdict in readings.values_list("item_id", "kind", "verdict"):
        found.setdefault(item, {})[kind] = verdict == Verdict.MISSED
    both = {item: kinds for item, kinds in found.items() if {ReadingKind.FIRST, ReadingKind.SECOND} <= kinds.keys()}
    pairs = [(kinds[ReadingKind.FIRST], kinds[ReadingKind.SECOND]) for kinds in both.values()]
    return SecondReadings(
        wanted=wanted,
        given=len(both),
        agreed=sum(first == second for first, second in pairs),
        kappa=cohen_kappa(pairs),
        open_disagreements=sum(
            kinds[ReadingKind.FIRST] != kinds[ReadingKind.SECOND] and ReadingKind.ADJUDICATION not in kinds
            for kinds in both.values()
        ),
    )


def _estimate(strata: list[Stratum], counts: list[int]) -> float:
    """Mean of a count over all records, each stratum by its weight; a stratum nobody looked at is left out."""
    whole = sum(each.population for each in strata if each.sample_size)
    return sum(
        each.population / whole * count / each.sample_size
        for each, count in zip(strata, counts, strict=True)
        if each.sample_size
    )


def _identifiers(strata: list[Stratum], missed: list[Any]) -> float:
    counts = [sum(sum(item[2].values()) for item in missed if item[1] == (each.name == DOUBTFUL)) for each in strata]
    return _estimate(strata, counts)


def _by_type(strata: list[Stratum], missed: list[Any], confidence: float) -> list[TypeRisk]:
    """Each type by itself, at the same confidence; the bounds do not hold all at once."""
    identifiers: Counter[str] = Counter()
    for item in missed:
        identifiers.update(item[2])
    risks = []
    for name, count in identifiers.most_common():
        holding = [
            _with(each, sum(item[1] == (each.name == DOUBTFUL) and name in item[2] for item in missed))
            for each in strata
        ]
        records = sum(each.misses for each in holding)
        risks.append(TypeRisk(name, records, count, stratified_bound(holding, confidence)))
    return risks


def _with(stratum: Stratum, misses: int) -> Stratum:
    return Stratum(stratum.name, stratum.population, stratum.sample_size, misses)
