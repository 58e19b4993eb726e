"""What the apps above may wait for. Sent inside the action's transaction: a receiver that fails undoes the action."""

from django.dispatch import Signal

model_version_made = Signal()
