"""Physics: the model of a scene, the engines that step it, and the choice of relevant objects."""
