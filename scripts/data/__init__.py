"""Making data sets: behaviour policies, recording, the sets of MuJoCo and racing."""
