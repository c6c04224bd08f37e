"""What everything rests on: settings, geometry, shapes."""
