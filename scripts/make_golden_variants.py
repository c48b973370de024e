#!/usr/bin/env python3
"""Writes tests/golden/variants.npz and families.npz: logits of the tiny models of tests/sources.py, computed by
transformers in double precision from the folders that scripts/convert.py reads in the tests. Needs torch and transformers;
the tests do not.

    scripts/make_golden_variants.py [families [NAME...]]

computes all, all families, or only those named; the others keep their values.
"""

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


GOLDEN = ROOT / "tests" / "golden"


def compute(name, config, tokens):
    """The digest of the weights, and the logits."""
    with tempfile.TemporaryDirectory() as folder:
        folder = sources.write_folder(Path(folder) / name, config)
        model, seen = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager", experts_implementation="eager",
            output_loading_info=True
        )
        unread = {key: names for key, names in seen.items() if names}
        assert not unread, f"{name}: transformers did not read the folder as it is meant: {unread}"
        digest = models.sha256((folder / "model.safetensors").read_bytes())
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0].numpy()
    print(f"{name}: {type(model).__name__}, standard deviation {logits.std():.3f}")
    return np.array(digest), logits


def main():
    arguments = sys.argv[1:]
    arrays = {}
    for name, config in sources.VARIANTS.items() if not arguments else ():
        digest, logits = compute(name, config, sources.tokens(config))
        arrays |= {f"{name} sha256": digest, f"{name} logits": logits[sources.GOLDEN_ROWS].astype("<f4")}
    if arrays:
        np.savez_compressed(GOLDEN / "variants.npz", **arrays)
    arrays = dict(np.load(GOLDEN / "families.npz")) if len(arguments) > 1 else {}
    for name in arguments[1:] or sources.FAMILIES:
        config = sources.FAMILIES[name]
        digest, logits = compute(name, config, sources.tokens(config, sources.N_FAMILY_TOKENS))
        kept = logits[sources.FAMILY_ROWS, sources.FAMILY_COLUMNS].astype("<f4")
        arrays |= {f"{name} sha256": digest, f"{name} logits": kept}
    np.savez_compressed(GOLDEN / "families.npz", **arrays)


if __name__ == "__main__":
    main()
