"""The indexes that pip and uv install packages from."""
