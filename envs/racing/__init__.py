"""The racing world: one environment, its vector form, the circuits and the scripted drivers."""
