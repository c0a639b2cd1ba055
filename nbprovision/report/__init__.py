"""How a run is told: to a terminal, as JSON, in files that others read."""
