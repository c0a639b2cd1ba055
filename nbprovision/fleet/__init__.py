"""Fleets: releases of a playbook in a bucket, taken by rings of notebook instances."""
