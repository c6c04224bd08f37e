"""Adapters to common interfaces. Each module imports its library only when you import the module.

`gymnasium` and `safety_gymnasium` need the extra `gym`. `brax` needs the extra `brax`.
"""
