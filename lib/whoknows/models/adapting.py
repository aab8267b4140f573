"""Adapting: low-rank adapters on the linear modules of a model's upper blocks, as PEFT puts them there."""

import warnings

from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from whoknows import WhoknowsError
from whoknows.models.reader import Reader, first_block, is_linear, targets


def adapt(reader: Reader, settings: dict) -> nn.Module:
    """The model with adapters, which are all that can be trained; warns of modules that PEFT gives none.

    Args:
        settings: the grid's `lora_prompt` section.

    Raises:
        WhoknowsError: the blocks lack a module, or PEFT cannot adapt one.
    """
    first, name = first_block(reader.depth, settings["first_layer"]), reader.model.config._name_or_path
    chosen, known = (targets(reader.model, wanted, first) for wanted in (settings["targets"], "all-linear"))
    blocks = reader.layers
    config = LoraConfig(
        r=settings["r"],
        lora_alpha=settings["alpha"],
        lora_dropout=settings["dropout"],
        target_modules=chosen,
        layers_to_transform=list(range(first, reader.depth)),
        task_type="CAUSAL_LM",
    )
    linear = {part: path for block in blocks[first:] for path, part in block.named_modules() if is_linear(part)}
    asked = {part: path for part, path in linear.items() if path.rpartition(".")[2] in chosen}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # what PEFT does that the next transformers does not allow
        warnings.filterwarnings("ignore", "fan_in_fan_out")  # PEFT sees by itself which way a matrix is stored
        try:
            model = get_peft_model(reader.model, config)
        except (ValueError, NotImplementedError) as error:  # some modules of some models it cannot adapt
            raise WhoknowsError(
                f"lora_prompt.targets: PEFT cannot adapt these of {name} ({' '.join(str(error).split())}); name others "
                f"of {', '.join(known)} in the grid"
            ) from None
    for block in blocks[:first]:
        block.requires_grad_(False)  # PEFT adapts the experts of all blocks, where they are one module
    _warn_of_others(model, asked, name)
    return model


def _warn_of_others(model: nn.Module, asked: dict[nn.Module, str], name: str) -> None:
    """Names the modules that were to get adapters and have none."""
    adapted = {part.get_base_layer() for part in model.modules() if isinstance(part, BaseTunerLayer)}
    if without := dict.fromkeys(path for part, path in asked.items() if part not in adapted):
        warnings.warn(
            f"{name}: no adapters on {', '.join(without)}, since PEFT takes these names for those of the experts",
            stacklevel=3,
        )
