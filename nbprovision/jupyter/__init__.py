"""Kernels, extensions, and the Jupyter server."""
