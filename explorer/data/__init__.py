"""Data sources: images and labels behind one protocol, found by name.

A data set of your own implements `DataSource` (or returns a `ResidentData` or a `StreamedData`, which do) and is named in a
task as `package.module:name`. `explorer.data.contract` has the tests that it must pass.
"""

from explorer.data.check import CheckedData, check_data
from explorer.data.map_style import map_style_data
from explorer.data.registry import SourceFactory, open_data, register, registered_names
from explorer.data.resident import ResidentData
from explorer.data.seeding import seed_for, seeded
from explorer.data.source import Batch, DataSource, Split, TargetKind, TrainStream, target_kind
from explorer.data.stream import stream_indices
from explorer.data.streamed import ImageDataset, StreamedData

__all__ = [
    "Batch",
    "CheckedData",
    "DataSource",
    "ImageDataset",
    "ResidentData",
    "SourceFactory",
    "Split",
    "StreamedData",
    "TargetKind",
    "TrainStream",
    "check_data",
    "map_style_data",
    "open_data",
    "register",
    "registered_names",
    "seed_for",
    "seeded",
    "stream_indices",
    "target_kind",
]
