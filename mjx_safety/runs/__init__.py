"""Trainings on disk: options, run folders, sweeps, published scores."""
