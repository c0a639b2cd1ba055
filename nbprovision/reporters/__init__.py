"""How a run is told: to a person at a terminal, to a program, to the log."""
