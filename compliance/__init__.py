"""The trust kernel: redaction, vault and ledger, in plain Python.

Guarantees that nothing in here needs Django, torch or a network, so that it can be read, audited and run on its own.
It does not decide who may do what: permission is the platform's matter.

Example: ``from compliance.vault import seal_writer``
"""
