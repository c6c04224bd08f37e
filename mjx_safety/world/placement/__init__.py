"""Where things are put at the start of an episode."""
