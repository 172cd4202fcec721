"""Measurements: ratios within one run, in fresh processes, as JSON and a table."""
