"""HyperZero and its baselines on the data of many contexts."""
