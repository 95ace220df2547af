"""Checks of options that several verbs have."""

from __future__ import annotations


def check_least(options: object, least: int, *names: str) -> None:
    """Refuse numbers below `least`, of the options named; None is not given.

    Raises:
        ValueError: such a number.
    """
    for name in names:
        number = getattr(options, name)
        if number is not None and number < least:
            raise ValueError(f"--{name.replace('_', '-')} {number}: give {least} or more")


def check_labels(labels: float | None) -> None:
    """Refuse a share of labels outside (0, 1].

    Raises:
        ValueError: such a share.
    """
    if labels is not None and not 0 < labels <= 1:
        raise ValueError(f"--labels {labels}: the share of rewards to keep lies in (0, 1]")
