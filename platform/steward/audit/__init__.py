"""The ledger's door into the database: outbox, sealed entries, checkpoints."""
