"""Making datasets: behaviour policies, recording, the datasets of MuJoCo and racing."""
