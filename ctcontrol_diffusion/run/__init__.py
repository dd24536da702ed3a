"""A run on disk: its folder, its stages, and how it stops and continues."""
