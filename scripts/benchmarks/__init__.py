"""Measuring: speed beside other packages, and selection on known transfer matrices."""
