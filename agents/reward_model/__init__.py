"""Reward-model imputation: model.py has the training, labels.py the split and the report."""
