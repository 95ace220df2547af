"""MBTL: which contexts to train in. `selector.py` has the class that users call."""

from orl.agents.mbtl.selector import Prediction, TaskSelector
from orl.agents.mbtl.strategies import Strategy
from orl.agents.mbtl.transfer_model import GeneralisationGap

__all__ = ["GeneralisationGap", "Prediction", "Strategy", "TaskSelector"]
