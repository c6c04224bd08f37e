"""Which objects the solver has to see in a step, and which worlds have any."""
