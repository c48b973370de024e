#!/usr/bin/env python3
"""Draws the training curve: scripts/stories/curve.py build/stories/curve.csv docs/stories-training.svg"""

import sys

import matplotlib
import numpy as np

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

matplotlib.rcParams["svg.hashsalt"] = "stories"  # the same numbers give the same file
matplotlib.rcParams["svg.fonttype"] = "none"
TRAINING, HELD_OUT = "#c0603a", "#2f6f8f"  # colours


def main(source, target):
    curve = np.genfromtxt(source, delimiter=",", names=True)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    training, held_out = curve["training"], curve["held_out"]
    axes.plot(curve["step"], training, color=TRAINING)
    axes.plot(curve["step"], held_out, "--", color=HELD_OUT)
    # Each label stands beside its line, on the side where the other line is not.
    beside = {"textcoords": "offset points", "va": "center"}
    axes.annotate("training", (curve["step"][1], training[1]), xytext=(8, 4), color=TRAINING, **beside)
    axes.annotate("held out", (curve["step"][2], held_out[2]), xytext=(-6, -6), color=HELD_OUT, ha="right", **beside)
    axes.set(xlabel="steps of 16 stories", ylabel="loss (nats per token)", yscale="log")
    ticks = [0.2, 0.3, 0.5, 0.7, 1, 2, 3, 4]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.set_title(f"models/stories.bin: held-out loss {curve['held_out'][-1]:.3f}")
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
