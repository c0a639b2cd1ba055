"""R's own packages."""
