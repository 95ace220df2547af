"""What every verb shares: the run directory, resume, launching, tables."""
