"""The ledger's mathematics and formats: entries, Merkle tree, signed checkpoints, bundles, and the offline verifier.

Guarantees that whoever holds a trusted key and an older checkpoint can tell whether anything that was recorded has been
changed, removed or put in later. It does not write or order entries: the platform's sealer does, in the database.

This file imports nothing, because it also travels inside evidence bundles, where only the verifier's modules lie
beside it.

Example: ``from compliance.ledger.merkle import CompactRange``
"""
