"""Presets trained from several seeds, side by side."""
