"""Synthetic images: letters, photographs of characters, outliers, and transforms of what is measured on."""
