"""The REST interface under /api/v1: what other systems drive Steward with."""
