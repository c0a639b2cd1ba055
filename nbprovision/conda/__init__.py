"""conda environments, their packages, and conda's configuration."""
