"""Fine-tuning in a process of its own.

Guarantees: ``trainers.spec`` and ``trainers.events`` import neither torch nor Django, so the platform may read both.
Training data, checkpoints, predictions and adapters exist on disk as vault objects only.
Does not: schedule, queue or authorise anything; whoever starts the process has decided that already.

Example:
    ``python -m trainers run --spec spec.json --out run/ < keys.json``
"""
