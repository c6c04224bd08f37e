"""Robots as values."""
