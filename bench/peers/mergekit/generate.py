#!/usr/bin/env python3
"""Seeded checkpoints in Llama's layout: a base and three models whose differences from it are N(0, 0.001), weights N(0, 0.02).

    ENV/bin/python bench/peers/mergekit/generate.py 168m FOLDER      tiny, 168m (168.3 M parameters) or 1.1b (1.10 B)

FOLDER gets base, a, b and c, in bfloat16; `tiny` also what the recipes need (see `tiny_family`).
"""
import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

SIZES = {
    "tiny": dict(hidden_size=64, num_hidden_layers=6, intermediate_size=172, vocab_size=131, num_attention_heads=4, num_key_value_heads=2),
    "168m": dict(hidden_size=1024, num_hidden_layers=8, intermediate_size=2816, vocab_size=32000, num_attention_heads=16, num_key_value_heads=16),
    "1.1b": dict(hidden_size=2048, num_hidden_layers=22, intermediate_size=5632, vocab_size=32000, num_attention_heads=32, num_key_value_heads=4),
}
TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def shapes_of(size, tied=False, vocabulary=None):
    hidden, inner, layers = size["hidden_size"], size["intermediate_size"], size["num_hidden_layers"]
    narrow = hidden * size["num_key_value_heads"] // size["num_attention_heads"]
    rows = vocabulary or size["vocab_size"]
    shapes = {"model.embed_tokens.weight": (rows, hidden)}
    for i in range(layers):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "input_layernorm.weight": (hidden,), layer + "post_attention_layernorm.weight": (hidden,),
            layer + "self_attn.q_proj.weight": (hidden, hidden), layer + "self_attn.k_proj.weight": (narrow, hidden),
            layer + "self_attn.v_proj.weight": (narrow, hidden), layer + "self_attn.o_proj.weight": (hidden, hidden),
            layer + "mlp.gate_proj.weight": (inner, hidden), layer + "mlp.up_proj.weight": (inner, hidden),
            layer + "mlp.down_proj.weight": (hidden, inner),
        }
    shapes["model.norm.weight"] = (hidden,)
    if not tied:
        shapes["lm_head.weight"] = (rows, hidden)
    return shapes


def write_model(folder, tensors, size, dtype, tied=False):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(TYPES[dtype]).contiguous() for name, tensor in tensors.items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", torch_dtype=dtype, tie_word_embeddings=tied,
                  hidden_act="silu", rms_norm_eps=1e-5, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, **size)
    rows = tensors["model.embed_tokens.weight"].shape[0]
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": rows}, indent=1))


def base_tensors(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).mul_(0.02) for name, shape in shapes.items()}


def moved(tensors, seed, deviation=0.001):
    """A fine-tuned model: it need not hold all rows of the base's embeddings, or may hold more."""
    generator = torch.Generator().manual_seed(seed)
    return {name: tensor + deviation * torch.randn(tensor.shape, generator=generator) for name, tensor in tensors.items()}


def family(folder, name):
    size = SIZES[name]
    base = base_tensors(shapes_of(size), 0)
    write_model(folder / "base", base, size, "bfloat16")
    for i, model in enumerate("abc"):
        write_model(folder / model, moved(base, i + 1), size, "bfloat16")


def tiny_family(folder):
    """base, a, b, c as TYPE/NAME in three element types; `tied`: the same without lm_head; `wide`: base and models with more and
    fewer rows of embeddings; `far`: models of other seeds, whose cosines with the base are near 0."""
    size = SIZES["tiny"]
    base = base_tensors(shapes_of(size), 0)
    models = {"base": base} | {name: moved(base, i + 1) for i, name in enumerate("abc")}
    models |= {f"far-{name}": base_tensors(shapes_of(size), 50 + i) for i, name in enumerate("ab")}
    for dtype in TYPES:
        for name, tensors in models.items():
            write_model(folder / dtype / name, tensors, size, dtype)
    for name, tensors in models.items():
        without = {key: value for key, value in tensors.items() if key != "lm_head.weight"}
        write_model(folder / "tied" / name, without, size, "bfloat16", tied=True)
    for name, rows in (("more", 140), ("fewer", 120)):
        other = dict(base)
        for key in ("model.embed_tokens.weight", "lm_head.weight"):
            other[key] = torch.cat([base[key], base[key]])[:rows]
        write_model(folder / "vocabulary" / name, moved(other, 9), size, "bfloat16")
    generator = torch.Generator().manual_seed(77)
    for name, rank, alpha in (("one", 4, 8), ("two", 8, 8)):
        write_adapter(folder / "adapters" / name, size, rank, alpha, generator)


def write_adapter(folder, size, rank, alpha, generator):
    folder.mkdir(parents=True, exist_ok=True)
    shapes = shapes_of(size)
    tensors = {}
    for name, shape in shapes.items():
        if not name.endswith(("q_proj.weight", "v_proj.weight", "down_proj.weight")):
            continue
        module = "base_model.model." + name.removesuffix(".weight")
        tensors[module + ".lora_A.weight"] = 0.05 * torch.randn((rank, shape[1]), generator=generator)
        tensors[module + ".lora_B.weight"] = 0.05 * torch.randn((shape[0], rank), generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = dict(peft_type="LORA", task_type="CAUSAL_LM", r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", fan_in_fan_out=False,
                  inference_mode=True, target_modules=["q_proj", "v_proj", "down_proj"], base_model_name_or_path="base")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1))


def generate(size, folder):
    """Makes what is not there yet; returns the folder."""
    folder = pathlib.Path(folder)
    mark = folder / ".complete"
    if mark.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if size == "tiny":
        tiny_family(folder)
    else:
        family(folder, size)
    mark.touch()
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder")
    arguments = parser.parse_args()
    generate(arguments.size, arguments.folder)


if __name__ == "__main__":
    main()
