"""The one error of the embedded database."""


class EmbeddedDatabaseError(Exception):
    """The embedded server cannot be made, started or stopped; the message says why and what to do."""
