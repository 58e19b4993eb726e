"""From an uploaded file to an approved, redacted, immutable dataset version."""
