"""Trainings and policies in many contexts: sources, specialists' data, transfer, zero-shot trials."""
