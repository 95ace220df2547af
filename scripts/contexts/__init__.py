"""Policies in many contexts: trainers, sources, the transfer matrix, splits, selection, zero-shot trials."""
