"""What a model's makers recommend for sampling: names and ranges of the values that a checkpoint carries.

A name is that of an option of ./run, with _ for -; the ranges are those of the table in options.c. The program checks
them again when it opens the file.
"""

import argparse

WHOLE = 1_000_000_000  # as large as a count may be
LIMITS = {
    "temperature": (0, 1000),
    "top_p": (0, 1),
    "top_k": (0, WHOLE),
    "min_p": (0, 1),
    "repeat_penalty": (0.01, 100),
    "repeat_last_n": (0, WHOLE),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}

# Where generation_config.json has them.
HUGGING_FACE = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
}


def expected(name):
    least, most = LIMITS[name]
    return f"a {'whole ' if most == WHOLE else ''}number from {least} to {most}"


def is_valid(name, value):
    least, most = LIMITS[name]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and least <= value <= most and (most != WHOLE or value == int(value))


def assignment(text):
    """NAME=VALUE of the command line: (name, value)."""
    name, _, value = text.partition("=")
    name = name.replace("-", "_")
    if name not in LIMITS:
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=VALUE with one of the names {', '.join(LIMITS)}")
    try:
        number = float(value)
    except ValueError:
        number = None
    if not is_valid(name, number):
        raise argparse.ArgumentTypeError(f"{text}: expected {expected(name)}")
    return name, number


def from_generation_config(fields):
    """(name, field, value) of what generation_config.json recommends. `do_sample: false` means the most probable token,
    that is temperature 0, at which no other value counts."""
    if fields.get("do_sample") is False:
        return [("temperature", "do_sample", 0)]
    return [(name, field, fields[field]) for field, name in HUGGING_FACE.items() if fields.get(field) is not None]
