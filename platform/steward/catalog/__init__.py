"""Base models this installation may load, with licence and digest."""
