"""Order, conditions, locks, budget; and for each task: read, plan, apply, verify."""
