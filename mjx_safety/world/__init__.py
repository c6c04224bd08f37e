"""The parts of a world as values: robots, objects, tasks, lidar, layouts. No physics."""
