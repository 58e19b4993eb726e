"""What makes the OpenAPI description; a file of its own because the library's views want it before they are loaded."""

from threading import Lock
from typing import Any

from drf_spectacular.generators import SchemaGenerator


class Generator(SchemaGenerator):
    """Makes one description at a time: the library resolves its extensions once for all threads, without a lock.

    Two first readers at once got an error instead of the description.
    """

    _ONE_AT_A_TIME = Lock()

    def get_schema(self, *arguments: Any, **named: Any) -> Any:
        """See the library's."""
        with self._ONE_AT_A_TIME:
            return super().get_schema(*arguments, **named)  # type: ignore[no-untyped-call]
