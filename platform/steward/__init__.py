"""Steward's Django project.

The apps stand in the order in which data pass through them: audit, accounts, vault, catalog, datasets, runs, assurance,
releases; web, console and api are doors on top and know nothing of each other.
"""
