"""Tests of `nbprovision.r`."""
