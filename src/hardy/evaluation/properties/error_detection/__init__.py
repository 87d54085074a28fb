"""Error detection, as a property."""
