"""Files of a checkpoint, and the folder that holds them."""

import jax.numpy as jnp
import numpy as np
import pytest

from mjx_safety.agents import checkpoint

TREE = {"weights": jnp.arange(6.0).reshape(2, 3), "num_rollouts": jnp.int32(7)}


def test_every_wrong_bit_of_the_archives_tables_is_refused_or_changes_nothing(tmp_path):
    path = tmp_path / "agent.npz"
    checkpoint.write_arrays(path, TREE)
    whole = path.read_bytes()
    table = whole.index(b"PK\x01\x02")
    refused = 0
    for place in [*range(30), *range(table, table + 46), *range(len(whole) - 22, len(whole))]:
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                read = checkpoint.read_arrays(path, TREE)
            except checkpoint.CheckpointError as error:
                assert str(error).startswith(f"the file {path} ")
                refused += 1
                continue
            for name, leaf in TREE.items():
                np.testing.assert_array_equal(read[name], leaf)
    assert refused > 100


def test_a_file_with_a_number_for_a_name_is_no_checkpoint(tmp_path):
    (tmp_path / "00000003").mkdir()
    (tmp_path / "00000004").touch()
    assert checkpoint.latest(tmp_path) == tmp_path / "00000003"


def test_checkpoints_are_ordered_by_number(tmp_path):
    for name in ("00000009", "100000000", "00000010"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoint.found(tmp_path)] == ["00000009", "00000010", "100000000"]


def test_arrays_of_another_tree_are_refused_by_name(tmp_path):
    path = tmp_path / "agent.npz"
    checkpoint.write_arrays(path, TREE)
    with pytest.raises(checkpoint.CheckpointError, match=r"0001_weights is .* here .1 arrays differ"):
        checkpoint.read_arrays(path, TREE | {"weights": jnp.zeros((3, 3))})
