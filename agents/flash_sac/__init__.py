"""FlashSAC: agent.py has the algorithm, networks.py its normalised networks, reward_scale.py the scale of rewards."""
