"""One thread a process, set before torch is imported: networks are small here, and waiting threads take turns away."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
