"""Running an installation: the supervisor (`up`) and the diagnosis (`doctor`)."""
