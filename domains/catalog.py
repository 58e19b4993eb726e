"""The model catalog: which base models a pack recommends, with facts that were looked up and where.

Guarantees that every entry has a licence, a source and, where its sizes are given, a parameter count that agrees with
them (within `PARAMETER_TOLERANCE`). An entry with `is_verified` false says why. Does not download anything, and says
nothing about models that are not listed: any local folder can be imported.

Example:
    >>> from domains.packs import load_pack
    >>> load_pack("healthcare").entry("smollm2-135m-instruct").licence
    'Apache-2.0'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from domains.memory import TOKENS_PER_STEP, WAYS, Architecture, count_parameters, estimate_memory_bytes
from domains.toml_table import TomlTable

PARAMETER_TOLERANCE = 0.001
BUNDLED_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One base model.

    `revision` is the hub commit that was looked at, or None with `revision_note` saying why there is none.
    `architecture` is None where the sizes could not be verified. `domain_training` says what field text the model saw
    before.
    """

    name: str
    title: str
    hub_id: str
    revision: str | None
    revision_note: str
    licence: str
    licence_url: str
    is_gated: bool
    parameters: int
    context_tokens: int
    architecture: Architecture | None
    domain_training: str
    sources: tuple[str, ...]
    is_verified: bool
    unverified: str
    is_bundled: bool
    note: str

    def memory_bytes(self, way: str, *, tokens: int = TOKENS_PER_STEP) -> int | None:
        """Memory to tune it by `lora`, `qlora` or `full` (see `domains.memory`); None where its sizes are unknown."""
        if way not in WAYS:
            raise ValueError(f"{way!r} is not one of {', '.join(WAYS)}")
        if self.architecture is None:
            return None
        return estimate_memory_bytes(self.architecture, self.parameters, way, tokens=tokens)


def read_shared_models(table: TomlTable) -> dict[str, CatalogEntry]:
    """Reads the models that all packs may use (`domains/models.toml`), by name."""
    entries = [_read_entry(model) for model in table.tables("models")]
    table.finish()
    return _by_name(table, entries)


def read_catalog(table: TomlTable, shared: Mapping[str, CatalogEntry]) -> tuple[CatalogEntry, ...]:
    """Reads a pack's catalog.toml: `[[use]]` picks a shared model, `[[models]]` describes one of the pack's own.

    The bundled model is always the first entry.

    Raises:
        PackError: a key is missing, unknown or of the wrong type, a model is unknown or listed twice, or facts
            disagree.
    """
    entries = [shared[BUNDLED_MODEL]]
    for choice in table.tables("use", is_required=False):
        entries.append(replace(shared[choice.text("model", choices=tuple(shared))], note=choice.text("note")))
        choice.finish()
    entries.extend(_read_entry(model) for model in table.tables("models", is_required=False))
    table.finish()
    _by_name(table, entries)
    return tuple(entries)


def _by_name(table: TomlTable, entries: list[CatalogEntry]) -> dict[str, CatalogEntry]:
    named = {entry.name: entry for entry in entries}
    if len(named) != len(entries):
        raise table.error("models", "a model is listed twice")
    return named


def _read_entry(table: TomlTable) -> CatalogEntry:
    sizes = table.optional_table("architecture")
    entry = CatalogEntry(
        name=table.name("name"),
        title=table.text("title"),
        hub_id=table.text("hub_id"),
        revision=table.optional_text("revision"),
        revision_note=table.text("revision_note", ""),
        licence=table.text("licence"),
        licence_url=table.text("licence_url", ""),
        is_gated=table.flag("gated", False),
        parameters=table.integer("parameters", least=1),
        context_tokens=table.integer("context_tokens", least=1),
        architecture=_read_architecture(sizes) if sizes else None,
        domain_training=table.text("domain_training"),
        sources=table.texts("sources"),
        is_verified=table.flag("verified"),
        unverified=table.text("unverified", ""),
        is_bundled=table.flag("bundled", False),
        note=table.text("note", ""),
    )
    table.finish()
    _check_entry(table, entry)
    return entry


def _check_entry(table: TomlTable, entry: CatalogEntry) -> None:
    if entry.revision is None and not entry.revision_note:
        raise table.error("revision_note", "must say why there is no revision")
    if not entry.is_verified and not entry.unverified:
        raise table.error("unverified", "must say what could not be verified and why")
    if not entry.sources:
        raise table.error("sources", "needs at least one source")
    if entry.architecture is not None:
        counted = count_parameters(entry.architecture)
        if abs(counted - entry.parameters) > PARAMETER_TOLERANCE * entry.parameters:
            raise table.error("parameters", f"is {entry.parameters} but the architecture adds up to {counted}")


def _read_architecture(table: TomlTable) -> Architecture:
    shape = Architecture(
        layers=table.integer("layers", least=1),
        hidden=table.integer("hidden", least=1),
        feed_forward=table.integer("feed_forward", least=1),
        heads=table.integer("heads", least=1),
        kv_heads=table.integer("kv_heads", least=1),
        head_size=table.integer("head_size", least=1),
        vocabulary=table.integer("vocabulary", least=1),
        is_tied=table.flag("tied"),
    )
    table.finish()
    return shape
