#!/usr/bin/env python3
"""Writes tests/golden/variants.npz: logits of the tiny models of tests/sources.py, computed by transformers in double
precision from the folders that scripts/convert.py reads in the tests. Needs torch and transformers; the tests do not."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import models  # noqa: E402
import sources  # noqa: E402


def main():
    arrays = {}
    for name, config in sources.VARIANTS.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = sources.write_folder(Path(folder) / name, config)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float64, attn_implementation="eager"
            )
            digest = models.sha256((folder / "model.safetensors").read_bytes())
            with torch.no_grad():
                logits = model(torch.tensor([sources.tokens(config)])).logits[0].numpy()
        arrays[f"{name} sha256"] = np.array(digest)
        arrays[f"{name} logits"] = logits[sources.GOLDEN_ROWS].astype("<f4")
        print(f"{name}: {type(model).__name__}, standard deviation {logits.std():.3f}")
    np.savez_compressed(ROOT / "tests" / "golden" / "variants.npz", **arrays)


if __name__ == "__main__":
    main()
