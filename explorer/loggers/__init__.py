"""Experiment loggers: TensorBoard, MLflow and W&B behind one interface, called from threads of their own."""

from explorer.loggers.background import BackgroundLogger
from explorer.loggers.services import Ending, LoggingService, LoggingTask, Metrics, Point, RunDescription, open_service

__all__ = [
    "BackgroundLogger",
    "Ending",
    "LoggingService",
    "LoggingTask",
    "Metrics",
    "Point",
    "RunDescription",
    "open_service",
]
