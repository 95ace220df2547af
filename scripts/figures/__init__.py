"""Figures as PNG files; every file is named for what it draws."""
