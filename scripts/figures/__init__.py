"""Figures, as PNG files."""
