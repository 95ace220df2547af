"""Offline and sample-efficient reinforcement learning.

The rooms are `orl.agents`, `orl.datasets`, `orl.envs` and `orl.scripts`; the modules here are the core that they share.
"""

__version__ = "0.1.0"
