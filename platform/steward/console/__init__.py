"""The console: where officers decide, auditors check and administrators keep people and workspaces."""
