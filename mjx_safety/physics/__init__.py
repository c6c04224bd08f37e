"""The engines behind one seam."""
