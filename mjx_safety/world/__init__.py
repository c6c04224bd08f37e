"""What a world is made of, as values: robots, objects, tasks, lidar, layouts. No physics."""
