"""The recipes for clusters are well formed, and `train` understands the command lines in them."""

import re
import subprocess

import pytest
import yaml

from .pages import blocks
from .test_commands import read_module

RECIPES = [block for block in blocks("slurm", "yaml") if block.page.name == "cluster.md"]
COMMAND = re.compile(r"python -m mjx_safety\.(\w+) ([^\n]*)")


def test_there_are_recipes():
    assert [block.title for block in RECIPES] == [
        "One training on several nodes: SLURM with requeue",
        "A cloud: SkyPilot",
        "Kubernetes",
    ]


@pytest.mark.parametrize("block", RECIPES, ids=lambda block: block.title)
def test_its_commands_can_be_read(block):
    texts = [block.text]
    if block.language == "yaml":
        parts = list(yaml.safe_load_all(block.text))
        texts = [text for part in parts for text in leaves(part)]
    else:
        assert block.text.startswith("#!/bin/bash\n#SBATCH ")
        assert subprocess.run(["bash", "-n"], input=block.text, text=True).returncode == 0
    found = [match for text in texts for match in COMMAND.findall(text)]
    assert found
    for module, flags in found:
        read_module(module, flags.split())


def leaves(tree):
    """All texts in a tree."""
    if isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(part)
    elif isinstance(tree, str):
        yield tree
