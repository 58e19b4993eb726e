"""What redaction found and did, and how much it may have missed.

Guarantees that the bound is recomputed from the counts the decision rested on; a stored bound that differs stops the
bundle. Cites the profile's policies only while the profile is still the one that was used.

Source: R. J. Buehler, Journal of the American Statistical Association 52 (1957); C. J. Clopper, E. S. Pearson,
Biometrika 26 (1934); 45 CFR 164.514(b).
"""

from typing import Any

from compliance.redaction import Profile, residual
from compliance.redaction.residual import Stratum
from compliance.redaction.stratified import stratified_bound
from steward.audit.actor import Refused
from steward.datasets.models import Reading, ReadingKind, SampleItem, Verdict
from steward.profiles.composing import policy_of
from steward.releases.evidence.dossier import Dossier, Incomplete
from steward.releases.evidence.rendering import figure, json_document, plain, table, timestamp

PPM = 1_000_000
LIMITS = (
    "The bound rests on people's verdicts: an identifier that a reviewer overlooked is not counted.",
    "A record counts as missed as long as any reader says so and no third person decided otherwise.",
    "More records may have been drawn after a look at the verdicts (`draws`); the confidence then holds approximately.",
    "It bounds the share of records with at least one miss, not the number of misses in a record.",
    "It holds for records drawn at random from this version; it says nothing of other data.",
    "Removing identifiers does not make a person unrecognisable to somebody who knows their story.",
)


def redaction_report(dossier: Dossier) -> dict[str, Any]:
    """The report as data.

    Raises:
        Incomplete: the decision's figures are missing, or do not follow from its counts.
    """
    run = dossier.redaction
    profile = _profile_used(dossier)
    return {
        "schema": "steward.redaction-report/1",
        "run": {
            "id": str(run.pk),
            "profile": run.profile,
            "profile_version": run.profile_version.number if run.profile_version else None,
            "profile_digest": run.profile_digest,
            "policy_digest": run.policy_digest,
            "list_entries": len(run.list_entries),
            "basis": profile.basis if profile else None,
            "records": run.done_count,
            "findings": run.finding_count,
            "records_set_aside": run.set_aside_count,
            "findings_by_type": run.counts_by_type,
            "started_at": timestamp(run.started_at),
            "finished_at": timestamp(run.finished_at),
        },
        "entity_policies": _policies(profile) if profile else None,
        "sample": _sample(dossier),
        "residual_risk": _residual(dossier),
        "decision": {"state": dossier.version.state, "decided_at": timestamp(dossier.version.decided_at)},
        "limits": list(LIMITS),
    }


def _profile_used(dossier: Dossier) -> Profile | None:
    """The policy the run used, lists aside, or None if the shipped profile has changed since or is gone."""
    run = dossier.redaction
    try:
        profile = policy_of(run.profile, run.profile_version)
    except Refused:
        return None
    return profile if profile.digest == run.policy_digest else None


def _policies(profile: Profile) -> list[dict[str, Any]]:
    return [
        {
            "type": name,
            "is_on": policy.on,
            "threshold": policy.threshold,
            "operator": policy.operator,
            "reason": policy.reason,
            "citation": policy.citation,
        }
        for name, policy in sorted(profile.entities.items())
    ]


def _sample(dossier: Dossier) -> dict[str, Any]:
    items = list(SampleItem.objects.filter(run=dossier.redaction).exclude(verdict=""))
    readings = list(Reading.objects.standing().filter(item__run=dossier.redaction).select_related("reviewer"))
    return {
        "drawn": SampleItem.objects.filter(run=dossier.redaction).count(),
        "reviewed": len(items),
        "method": "random, without replacement, within two strata: records with a doubtful finding, and all others",
        "read_twice": sum(reading.kind == ReadingKind.SECOND for reading in readings),
        "adjudicated": sum(reading.kind == ReadingKind.ADJUDICATION for reading in readings),
        "verdicts": {verdict: sum(item.verdict == verdict for item in items) for verdict in Verdict.values},
        "missed_identifiers": sum(item.missed_count for item in items),
        "reviewers": len({reading.reviewer_id for reading in readings}),
        "reviewer_pseudonyms": sorted({str(reading.reviewer.pseudonym) for reading in readings}),
    }


def _residual(dossier: Dossier) -> dict[str, Any]:
    kept = dossier.version.residual
    if not kept or not kept.get("sample_size"):
        raise Incomplete("the decision on the dataset version kept no figures of its sample")
    confidence = kept["confidence_percent"] / 100
    parts = kept.get("strata", [])
    strata = [Stratum(each["name"], each["population"], each["sample_size"], each["missed"]) for each in parts]
    if strata:
        bound = stratified_bound(strata, confidence)
    else:  # decided before samples were stratified
        bound = residual.upper_bound(kept["missed"], kept["sample_size"], confidence=confidence)
    if abs(round(PPM * bound) - kept["upper_bound_ppm"]) > 1:
        raise Incomplete("the bound kept with the decision does not follow from its counts")
    return {
        "sample_size": kept["sample_size"],
        "records_with_a_miss": kept["missed"],
        "upper_bound_ppm": kept["upper_bound_ppm"],
        "confidence_percent": kept["confidence_percent"],
        "strata": parts,
        "missed_by_type": kept.get("missed_by_type", {}),
        "draws": kept.get("rounds", 1),
        "open_disagreements": kept.get("open_disagreements", 0),
        "kappa_ppm": kept.get("kappa_ppm"),
        "method": "one-sided exact bound (Clopper-Pearson; over two strata Buehler's) on the share of records with a "
        "missed identifier, at the decision",
    }


def documents(dossier: Dossier) -> dict[str, bytes]:
    """`redaction-report.json` and `redaction-report.md`. Raises Incomplete as `redaction_report` does."""
    report = redaction_report(dossier)
    return {"redaction-report.json": json_document(report), "redaction-report.md": _markdown(report).encode()}


def _markdown(report: dict[str, Any]) -> str:
    run, sample, risk = report["run"], report["sample"], report["residual_risk"]
    found = sorted(run["findings_by_type"].items(), key=lambda item: (-item[1], item[0]))
    parts = [
        "# Redaction report",
        f"Profile {plain(run['profile'])} (`{run['profile_digest']}`), basis: {plain(run['basis'])}. "
        f"{figure(run['findings'])} identifiers were found in {figure(run['records'])} records.",
        "## Residual risk",
        f"{risk['sample_size']} records, drawn at random, were read by {sample['reviewers']} reviewer(s); "
        f"{risk['records_with_a_miss']} of them held an identifier that had been missed. "
        f"With {risk['confidence_percent']} % confidence at most "
        f"**{risk['upper_bound_ppm'] / 1000:.1f} in 1,000 records** hold one ({risk['method']}). "
        f"The version was then {report['decision']['state']} ({report['decision']['decided_at']}).",
        "\n".join(f"- {limit}" for limit in report["limits"]),
        "## Findings by type",
        table(("type", "found"), [(name, figure(count)) for name, count in found]),
        "## Policy by type",
        _policy_table(report["entity_policies"]),
    ]
    return "\n\n".join(parts) + "\n"


def _policy_table(policies: list[dict[str, Any]] | None) -> str:
    if policies is None:
        return "The profile has been changed or removed since; only its digest above stands for what was done."
    return table(
        ("type", "treated by", "from score", "why", "source"),
        [
            (p["type"], p["operator"] if p["is_on"] else "not looked for", p["threshold"], p["reason"], p["citation"])
            for p in policies
        ],
    )
