"""What users write and keep, as pydantic models. Imports neither torch, timm, ray, pandas nor numpy."""

from explorer.spec.base import Frozen, read_mapping
from explorer.spec.budget import Budget, BudgetField
from explorer.spec.data import DataSpec, FractalSpec, Preprocessing
from explorer.spec.inventory import Inventory, SplitInventory
from explorer.spec.loggers import LoggerName
from explorer.spec.lr_schedule import LearningRateSchedule
from explorer.spec.model import ModelSpec
from explorer.spec.provenance import Provenance
from explorer.spec.proxy import Proxy
from explorer.spec.rates import AXES, Axis, Rates
from explorer.spec.recipe import Augmentation, Recipe
from explorer.spec.schedule import Schedule, Stage
from explorer.spec.search_settings import RateLevels, SearchSettings, StagingChoices
from explorer.spec.search_space import SearchSpace
from explorer.spec.staging import Staging
from explorer.spec.task import TaskSpec
from explorer.spec.task_file import Resources, TaskFile

__all__ = [
    "AXES",
    "Augmentation",
    "Axis",
    "Budget",
    "BudgetField",
    "DataSpec",
    "FractalSpec",
    "Frozen",
    "Inventory",
    "LearningRateSchedule",
    "LoggerName",
    "ModelSpec",
    "Preprocessing",
    "Provenance",
    "Proxy",
    "RateLevels",
    "Rates",
    "Recipe",
    "Resources",
    "Schedule",
    "SearchSettings",
    "SearchSpace",
    "SplitInventory",
    "Stage",
    "Staging",
    "StagingChoices",
    "TaskFile",
    "TaskSpec",
    "read_mapping",
]
