"""From pictures as people have them to the 28x28 that a network of MNIST's digits sees."""

from hardy.intake.preparing import Polarity, Prepared, prepare
from hardy.intake.reading import Picture, read_pictures, write_pictures

__all__ = ["Picture", "Polarity", "Prepared", "prepare", "read_pictures", "write_pictures"]
