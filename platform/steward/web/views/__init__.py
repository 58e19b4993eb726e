"""Views of the web door, one module a room."""
