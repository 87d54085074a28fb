"""Datasets: where they come from, how they are read, and how they are split."""

from hardy.data.arrays import as_dataset
from hardy.data.dataset import Dataset
from hardy.data.loading import available, load_dataset
from hardy.data.registry import DATASETS, register
from hardy.data.splits import split_hashes
from hardy.data.user import load_user_dataset

__all__ = [
    "DATASETS",
    "Dataset",
    "as_dataset",
    "available",
    "load_dataset",
    "load_user_dataset",
    "register",
    "split_hashes",
]
