"""The engines behind one interface: mujoco, mjx, warp."""
