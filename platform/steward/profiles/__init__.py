"""Redaction profiles of a workspace: numbered versions over a shipped one, and lists of phrases. Both by two people."""
