"""Distribution shift, as a property."""
