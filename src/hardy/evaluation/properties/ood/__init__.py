"""Out-of-distribution detection, as a property."""
