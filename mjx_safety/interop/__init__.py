"""Adapters to interfaces that people already use. Each module imports its library, and only when it is imported itself.

`gymnasium` and `safety_gymnasium` need the extra `gym`, `brax` the extra `brax`.
"""
