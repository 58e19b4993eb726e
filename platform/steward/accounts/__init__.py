"""People, their roles in workspaces, and what a role permits."""
