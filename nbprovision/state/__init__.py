"""Proven results, and the witnesses that show whether they still stand."""
