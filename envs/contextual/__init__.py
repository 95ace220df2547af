"""Environments whose physics is a context: pendulum, cart-pole, MuJoCo's walkers and racing."""
