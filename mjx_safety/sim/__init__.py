"""Physics: the model of a scene, the engines that step it, and what they can leave out."""
