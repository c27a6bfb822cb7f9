"""What a site has tuned and learnt as a folder that peft, open_clip, diffusers and safetensors load without fednet.

The adapter of the image encoder is in peft's format, each pseudo-word is a file of diffusers' textual inversion, and
the classes' text features lie beside them, so that a few lines classify a picture. The small pretrained models lie in
the folder, too; large ones are named. Knows no pictures and no network.

Source: Hu et al. 2021 (arXiv 2106.09685) for LoRA; Gal et al. 2022 (arXiv 2208.01618) for textual inversion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from peft import LoraConfig
from torch import Tensor

from fednet.api import ModelState
from fednet.methods.cmtii.backend import CmtiiBackend
from fednet.methods.cmtii.config import LoraTuningConfig
from fednet.methods.cmtii.lexicon import Lexicon
from fednet.methods.cmtii.prompts import PROMPT_TEMPLATE
from fednet.models.exported_folder import ModelCard, json_bytes, weight_bytes, write_exported

ADAPTER = "adapter"
TEXTS = "classes.safetensors"
PEFT_PREFIX = "base_model.model."
"""Before the names of a `PeftModel`'s own parameters."""
CLASSIFY = f"""
import torch
from peft import PeftModel
from safetensors.torch import load_file
{{load}}
clip.visual = PeftModel.from_pretrained(clip.visual, "{ADAPTER}").merge_and_unload().eval()
texts = load_file("{TEXTS}")["texts"]
with torch.no_grad():
    features = torch.nn.functional.normalize(clip.encode_image(preprocess(picture)[None]), dim=-1)
label = (features @ texts.T).argmax(-1)
"""


def export_site(
    folder: Path,
    backend: CmtiiBackend,
    lexicon: Lexicon,
    *,
    texts: Tensor,
    adapter: ModelState,
    config: LoraTuningConfig,
) -> None:
    """Writes the folder; its card comes last.

    Args:
        folder: where to.
        backend: the site's models.
        lexicon: the site's own words, and those it has received.
        texts: what pictures are classified by, (classes, features).
        adapter: of the image encoder.
        config: how it was tuned.

    Raises:
        OSError: it cannot be written.
    """
    words = named_words(lexicon.classes, lexicon.own, lexicon.received())
    files = {f"words/{name}.safetensors": weight_bytes({f"<{name}>": word}) for name, word in words.items()}
    files |= {f"{ADAPTER}/{name}": content for name, content in adapter_files(adapter, config).items()}
    files[TEXTS] = weight_bytes({"texts": texts})
    write_exported(folder, {**backend.exported.files(), **files}, _card(backend, lexicon.classes, list(words)))


def adapter_files(state: ModelState, config: LoraTuningConfig) -> dict[str, bytes]:
    """An adapter in the two files of peft; a projection of an adapted attention belongs to it."""
    adapted = {name.partition(".lora_")[0].removesuffix(".out_proj").removesuffix(".base_layer") for name in state}
    lora = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=sorted(adapted), inference_mode=True)
    facts = {key: sorted(value) if isinstance(value, set) else value for key, value in lora.to_dict().items()}
    weights = {f"{PEFT_PREFIX}{name}": value for name, value in state.items()}
    return {"adapter_config.json": json_bytes(facts), "adapter_model.safetensors": weight_bytes(weights)}


def named_words(
    classes: Sequence[str], own: Mapping[int, Tensor], received: Mapping[int, Sequence[Tensor]]
) -> dict[str, Tensor]:
    """The words by what they are called: the label and name of their class, and a number where others sent them."""
    names = [
        f"{label}-{re.sub('[^0-9A-Za-z]+', '-', name)[:40].strip('-')}".strip("-") for label, name in enumerate(classes)
    ]
    words = {names[label]: word for label, word in sorted(own.items())}
    for label, several in received.items():
        words |= {f"{names[label]}-received-{number}": word for number, word in enumerate(several, 1)}
    return words


def _card(backend: CmtiiBackend, classes: Sequence[str], words: Sequence[str]) -> ModelCard:
    exported = backend.exported
    draw = exported.draw(words[0]) if words else ""
    return ModelCard(
        title="Pseudo-words, and an image encoder tuned with them",
        library="peft",
        tags=("open_clip", "lora", "textual-inversion"),
        text=f"Learnt and tuned by a site of a federation that exchanges pseudo-words. `{ADAPTER}/` is a LoRA of the "
        f"image encoder of a CLIP; `{TEXTS}` has a text feature a class; each file of `words/` is a word for "
        f'"{PROMPT_TEMPLATE} <word>" in the format of textual inversion: the site\'s own, and `received` ones, which '
        f"are other sites'. NOT PRIVATE: nothing bounds what they reveal of the pictures they were learnt from.\n\n"
        f"{exported.about}\n\nClasses: {', '.join(f'{label} {name}' for label, name in enumerate(classes))}.",
        code=f"{CLASSIFY.format(load=exported.load.strip())}\n{draw.strip()}",
    )
