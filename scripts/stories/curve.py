#!/usr/bin/env python3
"""Draws the training curve: scripts/stories/curve.py build/stories/curve.csv docs/stories-training.svg"""

import sys

import matplotlib
import numpy as np

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

matplotlib.rcParams["svg.hashsalt"] = "stories"  # the same numbers give the same file
matplotlib.rcParams["svg.fonttype"] = "none"


def main(source, target):
    curve = np.genfromtxt(source, delimiter=",", names=True)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(curve["step"], curve["training"], label="training", color="#c0603a")
    axes.plot(curve["step"], curve["held_out"], label="held out", color="#2f6f8f", linestyle="--")
    axes.set(xlabel="steps of 16 stories", ylabel="loss (nats a token)", yscale="log")
    ticks = [0.4, 0.5, 0.7, 1, 2, 4]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    axes.set_title(f"models/stories.bin: held-out loss {curve['held_out'][-1]:.3f}")
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
