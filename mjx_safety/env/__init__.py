"""One world as pure functions, and many worlds with auto-reset."""
