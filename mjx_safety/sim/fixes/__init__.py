"""Corrections of MJX and Warp."""
