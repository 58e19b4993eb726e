"""How long a record may be is what a model's configuration promises of its positions, scaled ones among them."""

import pytest

from trainers.positions import positions_of

YARN = {"rope_type": "yarn", "factor": 4.0}
LLAMA = {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192}
LONG = {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({}, None),
        ({"max_position_embeddings": 8192, "rope_scaling": None}, 8192),
        ({"n_positions": 1024}, 1024),
        # What was trained on is named, and less than the factor would make of it.
        ({"max_position_embeddings": 131072, "rope_scaling": LLAMA}, 131072),
        (
            {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "rope_scaling": LONG},
            131072,
        ),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": 4.0}}, 4096),
        ({"max_position_embeddings": 32768, "rope_scaling": YARN}, 131072),
        (
            {"max_position_embeddings": 163840, "rope_scaling": YARN | {"original_max_position_embeddings": 4096}},
            163840,
        ),
        (
            {"max_position_embeddings": 2048, "rope_parameters": {"full_attention": YARN, "sliding_attention": None}},
            8192,
        ),
        ({"max_position_embeddings": 2048, "rope_scaling": YARN | {"factor": float("inf")}}, 2048),
        ({"max_position_embeddings": 2048, "rope_scaling": YARN | {"factor": "4"}}, 2048),
    ],
)
def test_positions_are_those_that_the_configuration_names_or_stretches_to(config, positions):
    assert positions_of(config) == positions
