"""Measuring: speed beside other packages, and how well strategies select contexts to train in."""
