"""What every verb shares: the run directory, resume, launching, tables."""

import orl.envs  # noqa: F401  registers the environments of ours; not in orl.scripts, so that `orl --help` stays quick
