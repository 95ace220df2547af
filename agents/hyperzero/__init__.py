"""HyperZero: `hyperzero.py` has the algorithm and its losses, `hypernetwork.py` the networks that write weights,
`baselines.py` what it is compared with, `context_batches.py` the data by context."""
