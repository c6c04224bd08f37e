"""Placement of robot and objects at the start of an episode."""
