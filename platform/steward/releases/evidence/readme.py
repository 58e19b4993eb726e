"""The auditor's page: what the bundle is, how to check it without trusting us, and what it does not prove."""

from steward.releases.evidence.dossier import Dossier
from steward.releases.evidence.rendering import plain, table, timestamp

FILES = (
    ("model-card.md, model-card.json", "What the model is, how it was tuned, its scores against its base, its limits"),
    ("datasheet.md", "What it was trained on: origin, counts, split, redaction; no content"),
    ("redaction-report.md, redaction-report.json", "What was found and replaced, on which ground, what may remain"),
    (
        "gates.json",
        "Each check with figure, threshold and limits, and what the figures rest on of every held-out record",
    ),
    ("approvals.json", "Who decided on data and release, by pseudonym, and on which digest"),
    ("mlbom.cdx.json", "Bill of materials, CycloneDX 1.6"),
    ("provenance.intoto.json", "How the adapter was made: in-toto Statement with SLSA provenance v1"),
    ("model.sig, model-signing.pub", "Signature over the adapter's files (OpenSSF model signing) and its public key"),
    ("ledger/", "Ledger entries about all this, each with its proof against the signed checkpoint"),
    ("verifier/", "Source of the verifier: Python 3.11 and the package cryptography, nothing else"),
    ("SHA256SUMS", "Checksums of all other files"),
)

NOT_PROVEN = (
    "That what was recorded is true. The ledger proves that entries were not changed, removed or inserted after they "
    "were sealed, not that a reviewer read carefully.",
    "That nothing happened outside the ledger. Who holds the platform's signing key could keep a second ledger: "
    "compare the checkpoint with one that somebody outside has kept (`--checkpoint OLD`), and keep this one.",
    "That the model is anonymous, fair or right. `model-card.md` lists what was not measured.",
    "That redaction missed nothing. `redaction-report.md` gives the bound, and what the bound rests on.",
    "That the code which ran is the code whose digest is stated: no second party has rebuilt the model.",
)


def documents(dossier: Dossier) -> dict[str, bytes]:
    """`README.md`."""
    release = dossier.release
    parts = [
        f"# Evidence: {plain(dossier.typed(str(dossier.model_version)))}",
        f"Release `{release.pk}` ({release.get_audience_display().lower()}): **{release.state}** at "
        f"{timestamp(release.decided_at)}, bound to the adapter `{release.adapter_digest}`. This archive shows how a "
        "language model came from its data to that decision. It holds digests, counts and decisions, no record and no "
        "secret key, and people appear under pseudonyms.",
        "## Check it",
        "You need a **verification key (vkey)**, which is handed to you by another way than this archive. The key in "
        "`ledger/keys` is here for convenience and proves nothing. Best take the verifier, too, from a copy of Steward "
        "that you obtained yourself (`python -m compliance.ledger verify`); the one in here came with what it checks.",
        "```\nmkdir b && tar -xf BUNDLE.tar -C b\npython b/verifier/verify.py BUNDLE.tar --key VKEY\n```",
        "It works without a network. It checks every checksum, every entry's proof, the checkpoint's signature, and "
        "that an entry (`evidence.built`) records the digest of all files outside `ledger/`: so the documents, "
        "`model.sig` and its key are those of that time. Add `--checkpoint OLD` if you have kept an earlier one.",
        "If you hold the adapter, unpack it and check its signature with the tool `model_signing`:",
        "```\nmodel_signing verify key ADAPTER_FOLDER --signature model.sig --public_key model-signing.pub\n```",
        "## What each file shows",
        table(("file", "shows"), FILES),
        "Entries name their object by type and id; `approvals.json` gives both. Scores in `gates.json` average to the "
        "figures in the model card.",
        "## What this does not prove",
        "\n".join(f"- {each}" for each in NOT_PROVEN),
        "Names of data sets and models and the stated purposes are as people typed them, except that names of the "
        "platform's users were replaced by their pseudonyms.",
    ]
    return {"README.md": ("\n\n".join(parts) + "\n").encode()}
