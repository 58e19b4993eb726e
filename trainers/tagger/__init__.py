"""Training of the redaction's own tagger: ``python -m trainers.tagger --data DIR --out FOLDER --all``.

Guarantees: seeds are fixed, so the same machine makes the same weights; development groups (court cases, templates)
are never trained on unless ``--all`` asks for the final run. Does not: run in the product; what it makes is read by
``compliance.redaction.tagger``, which knows neither torch nor this package.
"""
