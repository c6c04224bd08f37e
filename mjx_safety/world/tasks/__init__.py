"""Tasks, rewards and costs."""
