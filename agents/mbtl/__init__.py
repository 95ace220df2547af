"""MBTL: which contexts to train in. `selector.py` has the class that users call."""
