"""What the apps above may wait for. Sent inside the action's transaction: a receiver that fails undoes the action."""

from django.dispatch import Signal

#: `version`: it was approved, or became smaller since by an erasure or a withheld record.
trainable_records_changed = Signal()
