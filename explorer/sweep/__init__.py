"""Sweeps on Ray: the driver, trials in workers, the lock, loggers. Only this folder and `production` import ray."""
