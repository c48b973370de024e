#!/usr/bin/env python3
"""Converts a model to a native checkpoint (docs/format.md), tensor by tensor, in little memory.

    scripts/convert.py SOURCE OUT --type q4

SOURCE is a Hugging Face folder (config.json, safetensors, tokenizer.json or tokenizer.model), a GGUF file, or a
llama2.c checkpoint with --tokenizer. Without --type the weights of a GGUF file keep their types exactly, where the
format supports them (Q8_0, Q4_0, Q4_1, BF16, F32, and F16 as f32; others become q8); those of other sources become q8.

Needs scripts/requirements.txt. Exit status: 2 for a usage error, 3 for an unusable source, 1 if writing fails.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import checkpoint
import sampling

MISSING = None  # a package that is not installed; --help works without it
try:
    import numpy as np
    from tqdm import tqdm

    import importance
    import quantize
    import source_gguf
    import source_huggingface
    import source_llama2c
    import vocabulary
    from source import Source, SourceError, refuse_pointer
except ModuleNotFoundError as error:
    MISSING = error.name

CONVERTER = "convert.py 1"
TYPES = ("f32", "bf16", "q8", "q4", "q4m")  # not from quantize.py, which needs packages
FOUR_BIT = ("q4", "q4m")
PROGRAM = Path(__file__).resolve().parent.parent / "run"
CHUNK_BYTES = 16 << 20  # of f32 values that are converted at once


def parse_arguments():
    parser = argparse.ArgumentParser(prog="convert", description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path, metavar="SOURCE", help="Hugging Face folder, GGUF file or llama2.c checkpoint")
    parser.add_argument("out", type=Path, metavar="OUT", help="the checkpoint to write")
    parser.add_argument("--type", choices=TYPES,
                        help="weight type of all matrices; default: each keeps that of a GGUF file, where the format "
                             "has it; q8 otherwise")  # fmt: skip
    parser.add_argument("--head", choices=TYPES,
                        help="weight type of embedding and head; default: that of --type, or q8 if that has 4 bits")  # fmt: skip
    parser.add_argument("--vocab-only", action="store_true", help="only the vocabulary, without weights, for --tokenize")
    parser.add_argument("--set", type=sampling.assignment, action="append", default=[], metavar="NAME=VALUE",
                        help="recommended value of sampling, before that of the source; may be repeated. Names: "
                             + ", ".join(sampling.LIMITS))  # fmt: skip
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="tokenizer.bin of a llama2.c checkpoint")
    parser.add_argument("--run", type=Path, default=PROGRAM, metavar="PROGRAM",
                        help="the program that opens the finished file before it gets its name; default: %(default)s")  # fmt: skip
    args = parser.parse_args()
    if args.vocab_only and (args.type or args.head or args.set):
        parser.error("--vocab-only writes no weights: it cannot be used with --type, --head or --set")
    return args


def source_kind(path):
    if path.is_dir():
        return "huggingface"
    try:
        refuse_pointer(path)
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    if start == checkpoint.MAGIC:
        raise SourceError(f"{path}: is already a native checkpoint")
    if path.suffix in (".safetensors", ".json", ".model"):
        raise SourceError(f"{path}: is one file of a model, expected the folder")
    return "gguf" if start[:4] == b"GGUF" else "llama2c"


def choose_types(args, source, tensors):
    """Name -> weight type of each matrix."""
    types = {}
    for name, rows, _ in tensors:
        if rows is None:
            continue
        kept = source.tensors[name].type if source.keeps_types else None
        own = args.type or kept or "q8"
        if name in ("embedding", "head"):
            own = args.head or ("q8" if args.type in FOUR_BIT else own)
        types[name] = own
    return types


def check_tensors(source):
    """Checks that the source has exactly the tensors that its shape requires."""
    expected = {name: (rows or 1, cols) for name, rows, cols in checkpoint.model_tensors(source.config)}
    for name, (rows, cols) in expected.items():
        tensor = source.tensors.get(name)
        if tensor is None:
            raise SourceError(f"{source.path}: tensor {name} is missing")
        if (tensor.rows, tensor.cols) != (rows, cols):
            raise SourceError(
                f"{source.path}: tensor {tensor.name} has {tensor.rows} x {tensor.cols} values, expected {rows} x {cols}"
            )
    for name in source.tensors.keys() - expected.keys():
        raise SourceError(f"{source.path}: tensor {source.tensors[name].name} has no place in a model of this shape")


def column_importance(source, types):
    """Name -> importance of each column, for the matrices of layers; empty if no weights have to be quantised."""
    if not any(
        n.startswith("blocks.") and t in quantize.SCALE_BYTES and source.tensors[n].type != t for n, t in types.items()
    ):
        return {}
    hidden = not sys.stderr.isatty()
    with tqdm(total=source.config.n_layers, desc="measuring activations", leave=False, disable=hidden) as progress:
        return importance.mean_squares(source, lambda layer: progress.update())


def matrix_pieces(tensor, weight_type, head_dim, columns):
    """The bytes of a matrix, a few rows at a time: whole groups and, where rows are reordered, whole heads. columns is
    their importance, or None."""
    unit = np.lcm(checkpoint.GROUP_ROWS, head_dim) if tensor.neighbours else checkpoint.GROUP_ROWS
    step = int(max(1, CHUNK_BYTES // (4 * tensor.cols) // unit) * unit)
    for begin in range(0, tensor.rows, step):
        end = min(begin + step, tensor.rows)
        if tensor.type == weight_type and weight_type in quantize.SCALE_BYTES:
            blocks = tensor.blocks(begin, end)
        else:
            values = tensor.values(begin, end)
            if weight_type in quantize.SCALE_BYTES and np.abs(values).max() > quantize.LARGEST:
                most = f"{quantize.LARGEST}, the largest of {weight_type}"
                raise SourceError(f"{tensor.path}: tensor {tensor.name} has a value above {most}")
            blocks = quantize.blocks(values, weight_type, columns)
        yield quantize.interleave(blocks, weight_type)


def vector_pieces(tensor):
    values = tensor.vector().astype("<f4").tobytes()
    yield values
    yield bytes(-len(values) % checkpoint.SECTION_ALIGNMENT)


def provenance(args, source, types):
    """The provenance section: lines of text. A value from the source cannot start a new line."""
    matrices = {t for name, t in types.items() if name not in ("embedding", "head")}
    lines = {
        "source": args.source.resolve().name,
        "license": source.license,
        "type": "+".join(sorted(matrices)) or "none",
        "head_type": types.get("head", types.get("embedding", "none")),
        "converter": CONVERTER,
    }
    return "".join(f"{key}: {' '.join(str(value).split())}\n" for key, value in lines.items()).encode("utf-8")


def chat_section(args, words):
    """The chat section, which is the template's source; None if there is none, or the program cannot read it."""
    if not words.chat_template:
        return None
    source = words.chat_template.encode("utf-8")
    reason = why_unreadable(args, words, source)
    if reason:
        warn(args, f"no chat section, its chat template cannot be used: {reason}")
    return None if reason else source


def why_unreadable(args, words, source):
    """What the program says of a template that it cannot read, in a checkpoint without weights; None if it can, or is not
    built."""
    if args.run == PROGRAM and not PROGRAM.exists():
        return None
    contents = {
        "config": checkpoint.Config(vocab_size=len(words.pieces), vocab_only=True).section(),
        "tokenizer": words.section(),
        "chat": source,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "chat.bin")
        with checkpoint.Writer(path, [checkpoint.bytes_section(n, len(data)) for n, data in contents.items()]) as writer:
            for name, data in contents.items():
                writer.write(name, [data])
        return why_refused(args, path, "chat template")


def why_refused(args, path, shown):
    """What the program says of a file that it refuses, called `shown`; None if it opens it."""
    done = subprocess.run([args.run.absolute(), path, "--verify"], stdin=subprocess.DEVNULL, capture_output=True)
    if not done.returncode:
        return None
    said = done.stderr.decode("utf-8", "replace").strip() or f"it ended with status {done.returncode}"
    return said.removeprefix("run: ").replace(str(path), shown)


def recommended(args, source):
    """{name: value} of sampling: --set, then what the source recommends."""
    values = {}
    for name, field, value in source.recommended:
        if name in dict(args.set):
            continue
        if not sampling.is_valid(name, value):
            raise SourceError(
                f"{source.recommended_in}: {field} is {str(value)[:100]!r}, expected {sampling.expected(name)} "
                f"(--set {name}=VALUE sets another)"
            )
        values[name] = value
    return values | dict(args.set)


@contextmanager
def step(text):
    """Shows on a terminal what takes a while."""
    shown = sys.stderr.isatty()
    if shown:
        print(f"{text} ..", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def warn(args, message):
    print(f"convert: {args.source}: {message}", file=sys.stderr)


def check_opens(args, path):
    """Has the program itself open the finished file, so that whatever is written can be used."""
    if args.run == PROGRAM and not PROGRAM.exists():
        print(f"convert: {args.out}: was not opened to check it: {PROGRAM} is not built (make builds it)", file=sys.stderr)
        return
    with step("opening what was written, to check it"):
        reason = why_refused(args, path, str(args.out))
    if reason:
        raise SourceError(f"{args.source}: {args.run} does not open what was made of it, which is removed: {reason}")


def read_source(args):
    """The model's Source and its Vocabulary."""
    kind = source_kind(args.source)
    if args.tokenizer and kind != "llama2c":
        raise SourceError(f"{args.source}: already has a tokenizer; --tokenizer is for llama2.c checkpoints")
    if kind == "llama2c" and not args.tokenizer:
        raise SourceError(f"{args.source}: a llama2.c checkpoint has no tokenizer, expected --tokenizer tokenizer.bin")
    module = {"huggingface": source_huggingface, "gguf": source_gguf, "llama2c": source_llama2c}[kind]
    if args.vocab_only:
        words = vocabulary.read_vocabulary(args.tokenizer or args.source)
        return Source(args.source, checkpoint.Config(vocab_size=len(words.pieces), vocab_only=True)), words
    source = module.read(args.source)
    check_tensors(source)
    return source, vocabulary.read_vocabulary(args.tokenizer or source.vocabulary)


def convert(args):
    with step("reading shape and vocabulary"):
        source, words = read_source(args)
    config = source.config
    tensors = list(checkpoint.model_tensors(config)) if not config.vocab_only else []
    types = choose_types(args, source, tensors)
    contents = {
        "config": config.section(recommended(args, source)),
        "provenance": provenance(args, source, types),
        "tokenizer": words.section(config.vocab_size),
    }
    chat = chat_section(args, words)
    if chat:
        contents["chat"] = chat
    sections = [checkpoint.bytes_section(name, len(data)) for name, data in contents.items()]
    for name, rows, cols in tensors:
        if rows is None:
            sections.append(checkpoint.vector_section(name, cols))
        else:
            sections.append(checkpoint.matrix_section(name, types[name], rows, cols))
    columns = column_importance(source, types)
    total = sum(section.size for section in sections)
    with (
        tqdm(total=total, desc="writing", unit="B", unit_scale=True, disable=not sys.stderr.isatty()) as progress,
        checkpoint.Writer(args.out, sections, lambda path: check_opens(args, path)) as writer,
    ):
        for section in sections:
            if section.kind == checkpoint.BYTES:
                pieces = [contents[section.name]]
            elif section.kind == checkpoint.VECTOR:
                pieces = vector_pieces(source.tensors[section.name])
            else:
                name = section.name
                pieces = matrix_pieces(source.tensors[name], types[name], config.head_dim, columns.get(name))
            writer.write(section.name, counted(pieces, progress))


def counted(pieces, progress):
    for piece in pieces:
        yield piece
        progress.update(len(piece))


def main():
    args = parse_arguments()
    if MISSING:
        print(f"convert: {MISSING} is not installed: run `make converter`, then .venv-convert/bin/python scripts/convert.py",
              file=sys.stderr)  # fmt: skip
        return 1
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # removes the unfinished file
    try:
        convert(args)
    except (SourceError, vocabulary.VocabularyError) as error:
        print(f"convert: {' '.join(str(error).split())}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"convert: {error.filename2 or error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 3 if error.filename and Path(error.filename).is_relative_to(args.source) else 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
