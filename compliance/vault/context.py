"""The place an object belongs to, bound into its ciphertext.

Guarantees that two different contexts never have the same associated data. It does not hide the context: identifiers
in it should be opaque.

Example: ``ObjectContext(workspace="w1", dataset="d7", object="o9", kind="shard", version="1")``
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Self

from compliance.canonical import canonical_json


@dataclass(frozen=True, slots=True)
class ObjectContext:
    """Where an object belongs. Opened in any other place, it fails.

    Attributes:
        workspace: identifier of the workspace.
        dataset: identifier of the dataset or other collection.
        object: identifier of the object itself.
        kind: what the object holds, for example ``shard`` or ``adapter``.
        version: version of the content.
    """

    workspace: str
    dataset: str
    object: str
    kind: str
    version: str

    def __post_init__(self) -> None:
        for field in fields(self):
            if not isinstance(getattr(self, field.name), str):
                raise TypeError(f"context field {field.name} must be a string")

    def associated_data(self) -> bytes:
        """Canonical JSON (RFC 8785) of the five fields, as given to the cipher."""
        return canonical_json(asdict(self))

    def to_json(self) -> dict[str, str]:
        """The five fields as a plain dictionary, for a specification or a database column."""
        return dict(asdict(self))

    @classmethod
    def from_json(cls, value: Mapping[str, str]) -> Self:
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: a field is missing or unknown.
            TypeError: a field is not a string.
        """
        names = {field.name for field in fields(cls)}
        if set(value) != names:
            raise ValueError(f"a context has exactly the fields {', '.join(sorted(names))}")
        return cls(**value)
