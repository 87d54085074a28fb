"""Datasets: where they come from, how they are read, and how they are split."""

from hardy.datasets.dataset import Dataset
from hardy.datasets.loading import available, load_dataset
from hardy.datasets.registry import DATASETS
from hardy.datasets.splits import split_hashes
from hardy.datasets.user import load_user_dataset

__all__ = ["DATASETS", "Dataset", "available", "load_dataset", "load_user_dataset", "split_hashes"]
