"""Where pip and uv fetch packages from."""
