"""The choice of objects that the solver must see in a step, and of worlds that have such objects."""
