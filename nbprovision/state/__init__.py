"""What was proven true, and the witnesses that tell whether it still is."""
