"""The base of all other folders: settings, geometry, shapes."""
