"""Robots that are the whole world: no arena, no objects, no lidar. The task is to run, not too fast."""
