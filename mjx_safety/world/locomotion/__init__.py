"""Robots without objects: no arena, no lidar. The task is to run, but not too fast."""
