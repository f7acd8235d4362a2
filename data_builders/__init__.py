"""TFDS builders of the data sets, and how a run gets its tracklets."""

from data_builders.load import load, prepare

__all__ = ["load", "prepare"]
