"""Two-person release bound to an adapter's digest, and its evidence bundle."""
