#!/usr/bin/env python3
"""Merges that a user would do, loaded in Hugging Face transformers and compared with the same merge done in plain torch.

    PYTHON bench/peers/mergekit/check_transformers.py --theriac build/release/bin/theriac

PYTHON has torch, transformers, peft and tokenizers (the environment of this folder's peer has). Models are made here from a seed; no
file is downloaded. Each line gives the greatest difference of the logits, relative to their spread. Ends with "N passed, N failed".
"""
import argparse
import copy
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM,
                          PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM)

VOCABULARY = 320


def llama(seed, tied=False, layers=4):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=160, num_hidden_layers=layers, num_attention_heads=4,
                         num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=tied, initializer_range=0.2)
    return LlamaForCausalLM(config).eval()


def tuned(base, seed, size=0.05):
    """The base with noise on every weight, as fine-tuning would change it."""
    torch.manual_seed(seed)
    model = copy.deepcopy(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * size)
    return model


def adapter(base, folder, seed, **options):
    torch.manual_seed(seed)
    model = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
            elif parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)


def adapted(base, folder):
    return PeftModel.from_pretrained(copy.deepcopy(base), folder).merge_and_unload().eval()


class Bench:
    def __init__(self, theriac, folder):
        self.theriac, self.folder = theriac, folder
        self.passed = self.failed = 0

    def save(self, model, name, **options):
        model.save_pretrained(self.folder / name, **options)

    def merge(self, name, recipe, *options):
        path = self.folder / f"{name}.yml"
        path.write_text(recipe)
        command = [self.theriac, "merge", path, self.folder / name, "--quiet", "--verify", *options]
        done = subprocess.run([str(x) for x in command], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done

    def report(self, what, difference, limit):
        good = difference <= limit
        self.passed += good
        self.failed += not good
        print(f"{'ok  ' if good else 'FAIL'} {what}: {difference:.2e} (at most {limit:.1e})", flush=True)

    def compare(self, what, name, wanted, limit=1e-5, exact=None):
        """Logits of the merged folder as transformers loads it, and of the model made here. With `exact`, the same merge in float64, all
        logits are float64 and the limit is twice the distance of torch's own float32 merge from it."""
        got, info = AutoModelForCausalLM.from_pretrained(self.folder / name, dtype=torch.float32, output_loading_info=True)
        tied = getattr(got.config, "tie_word_embeddings", False)
        missing = [key for key in info["missing_keys"] if not (tied and key == "lm_head.weight")]
        if missing or info["unexpected_keys"] or info["mismatched_keys"]:
            self.failed += 1
            print(f"FAIL {what}: loading says {info}")
            return
        torch.manual_seed(0)
        tokens = torch.randint(0, min(got.config.vocab_size, wanted.config.vocab_size), (2, 24))
        kind = torch.float32 if exact is None else torch.float64
        with torch.no_grad():
            a, b, c = (None if model is None else model.to(kind).eval()(tokens).logits for model in (got, wanted, exact))
        if a.shape != b.shape:
            return self.report(what, float("inf"), limit)
        if exact is not None:
            limit, b = 2 * ((b - c).abs().max() / c.std()).item(), c
        self.report(what, ((a - b).abs().max() / b.std()).item(), limit)


def with_state(model, state):
    out = copy.deepcopy(model)
    out.load_state_dict(state)
    return out


# ---- two adapters on one base ----------------------------------------------------------------------------------------------------


def two_adapters(bench):
    targets = ["q_proj", "v_proj", "up_proj"]
    cases = {
        "plain": dict(r=8, lora_alpha=16, target_modules=targets),
        "rank and alpha patterns": dict(r=8, lora_alpha=16, target_modules=targets, rank_pattern={"q_proj": 4}, alpha_pattern={"up_proj": 32}),
        "rsLoRA": dict(r=8, lora_alpha=16, target_modules=targets, use_rslora=True),
        "DoRA": dict(r=4, lora_alpha=8, target_modules=targets, use_dora=True),
        "modules to save": dict(r=4, lora_alpha=8, target_modules=targets, modules_to_save=["lm_head"]),
        "embeddings": dict(r=4, lora_alpha=8, target_modules=["q_proj", "embed_tokens"]),
    }
    base = llama(1)
    bench.save(base, "base")
    for number, (what, options) in enumerate(cases.items()):
        names = [f"x{number}", f"y{number}"]
        for seed, name in enumerate(names):
            adapter(base, bench.folder / name, 10 * number + seed, **options)

        def merged(start):
            wanted = start.state_dict()
            parts = [adapted(start, bench.folder / name).state_dict() for name in names]
            state = {key: wanted[key] + 0.7 * (parts[0][key] - wanted[key]) + 0.4 * (parts[1][key] - wanted[key]) for key in wanted}
            return with_state(start, state)

        bench.merge(f"adapters{number}", f"""merge_method: task_arithmetic
base_model: base
models:
  - model: base+{names[0]}
    parameters: {{weight: 0.7}}
  - model: base+{names[1]}
    parameters: {{weight: 0.4}}
""")
        bench.compare(f"two adapters on one base, {what}", f"adapters{number}", merged(base), exact=merged(copy.deepcopy(base).double()))


def gpt2_adapter(bench):
    """Weights stored [in, out], and a checkpoint without the prefix that PEFT sees."""
    torch.manual_seed(3)
    base = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=48, n_layer=3, n_head=4, n_positions=64, initializer_range=0.2)).eval()
    base.transformer.save_pretrained(bench.folder / "gpt2")
    base.config.save_pretrained(bench.folder / "gpt2")
    adapter(base, bench.folder / "gpt2x", 5, r=4, lora_alpha=8, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    bench.merge("gpt2out", "merge_method: passthrough\nmodels: [{model: gpt2+gpt2x}]\n")
    bench.compare("an adapter merged into GPT-2 (fan_in_fan_out)", "gpt2out", adapted(base, bench.folder / "gpt2x"))


# ---- ties of three ---------------------------------------------------------------------------------------------------------------


def ties(base, tensors, density):
    """2306.01708, as recipes mean it: trim by magnitude, elect by the sum, mean of those that agree."""
    deltas = []
    for tensor in tensors:
        delta = tensor - base
        keep = max(1, int(density * delta.numel()))
        order = delta.abs().flatten().argsort(descending=True, stable=True)[:keep]
        mask = torch.zeros(delta.numel(), dtype=torch.bool)
        mask[order] = True
        deltas.append(torch.where(mask.view_as(delta), delta, torch.zeros(())))
    stacked = torch.stack(deltas)
    sign = torch.where(stacked.sum(0) >= 0, 1.0, -1.0)
    agree = (stacked.sign() == sign).float()
    return base + (stacked * agree).sum(0) / agree.sum(0).clamp(min=1)


def ties_of_three(bench, tied, name, **save):
    base = llama(7, tied)
    parts = [tuned(base, seed) for seed in (21, 22, 23)]
    bench.save(base, name + "base")
    for number, part in enumerate(parts):
        bench.save(part, f"{name}{number}", **save)
    state = {key: ties(value, [part.state_dict()[key] for part in parts], 0.5) for key, value in base.state_dict().items()}
    listed = "".join(f"  - {{model: {name}{i}, parameters: {{weight: 1, density: 0.5}}}}\n" for i in range(3))
    bench.merge(name, f"merge_method: ties\nbase_model: {name}base\nmodels:\n{listed}")
    what = "ties of three models" + (", tied head" if tied else "") + (", PyTorch files in shards" if save else "")
    bench.compare(what, name, with_state(base, state))


# ---- stacked layers --------------------------------------------------------------------------------------------------------------


def stacked(bench):
    a, b = llama(31), llama(32)
    bench.save(a, "deep_a")
    bench.save(b, "deep_b", max_shard_size="100KB")
    bench.merge("deep", """merge_method: passthrough
slices:
  - sources: [{model: deep_a, layer_range: [0, 3]}]
  - sources: [{model: deep_b, layer_range: [1, 4]}]
""", "--out-shard-size", "100K")
    wanted = llama(31, layers=6)
    wanted.model.embed_tokens.load_state_dict(a.model.embed_tokens.state_dict())
    layers = list(a.model.layers[:3]) + list(b.model.layers[1:4])
    for into, layer in zip(wanted.model.layers, layers):
        into.load_state_dict(layer.state_dict())
    wanted.model.norm.load_state_dict(b.model.norm.state_dict())
    wanted.lm_head.load_state_dict(b.lm_head.state_dict())
    bench.compare("layers stacked from two models", "deep", wanted)


def stacked_types(bench):
    """A configuration with a list over the layers, which has to follow them."""
    torch.manual_seed(41)
    config = Qwen2Config(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
                         num_key_value_heads=2, use_sliding_window=True, sliding_window=8, max_window_layers=1, initializer_range=0.2)
    model = Qwen2ForCausalLM(config).eval()
    bench.save(model, "windows")
    bench.merge("windows_out", """merge_method: passthrough
slices:
  - sources: [{model: windows, layer_range: [0, 2]}]
  - sources: [{model: windows, layer_range: [0, 3]}]
""")
    types = config.layer_types
    made = json.loads((bench.folder / "windows_out/config.json").read_text())
    bench.report("a list over the layers follows them", float(made["layer_types"] != types[:2] + types), 0)
    wanted_config = copy.deepcopy(config)
    wanted_config.num_hidden_layers, wanted_config.layer_types = 5, types[:2] + types
    wanted = Qwen2ForCausalLM(wanted_config).eval()
    state = {key: value for key, value in model.state_dict().items() if ".layers." not in key}
    for into, source in enumerate([0, 1, 0, 1, 2]):
        for key, value in model.model.layers[source].state_dict().items():
            state[f"model.layers.{into}.{key}"] = value
    wanted.load_state_dict(state)
    bench.compare("layers of different attention stacked", "windows_out", wanted)


# ---- tokenizers ------------------------------------------------------------------------------------------------------------------


def tokenizer(folder, text, special):
    """A small byte-pair tokenizer, trained here."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator([text], trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "<s>", special]))
    fast = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", additional_special_tokens=[special])
    fast.save_pretrained(folder)
    return fast


def union(bench):
    texts = ["the cat sat on the mat and the dog sat on the log", "a quick brown fox jumps over a lazy dog again and again"]
    parts, tokenizers = [], []
    for number, text in enumerate(texts):
        name = f"words{number}"
        made = tokenizer(bench.folder / name, text, f"<only{number}>")
        model = llama(50 + number)
        model.resize_token_embeddings(len(made))
        bench.save(model, name)
        parts.append(model)
        tokenizers.append(made)
    bench.merge("words", """merge_method: linear
base_model: words0
models:
  - {model: words0, parameters: {weight: 0.5}}
  - {model: words1, parameters: {weight: 0.5}}
tokenizer: {source: union, pad_to_multiple_of: 8}
chat_template: chatml
""")
    made = AutoTokenizer.from_pretrained(bench.folder / "words")
    vocabularies = [t.get_vocab() for t in tokenizers]
    tokens = set(vocabularies[0]) | set(vocabularies[1])
    bench.report("the union has every token", float(set(made.get_vocab()) != tokens), 0)
    numbers = made.get_vocab()
    bench.report("the base's tokens keep their numbers", float(any(numbers[t] != i for t, i in vocabularies[0].items())), 0)
    rows = (len(tokens) + 7) // 8 * 8

    def arranged(part, own, other, other_own):
        out = torch.zeros(rows, part.shape[1])
        for token, number in numbers.items():
            out[number] = part[own[token]] if token in own else other[other_own[token]]
        out[len(tokens):] = out[:len(tokens)].mean(0)
        return out

    wanted = copy.deepcopy(parts[0])
    wanted.resize_token_embeddings(rows)
    state = {}
    for key, value in wanted.state_dict().items():
        a, b = parts[0].state_dict()[key], parts[1].state_dict()[key]
        if "embed_tokens" in key or "lm_head" in key:
            a, b = arranged(a, vocabularies[0], b, vocabularies[1]), arranged(b, vocabularies[1], a, vocabularies[0])
        state[key] = (a + b) / 2
    bench.compare("union of two tokenizers", "words", with_state(wanted, state))
    chat = made.apply_chat_template([{"role": "user", "content": "the cat"}], tokenize=False, add_generation_prompt=True)
    bench.report("its chat template is the one asked for",
                 float(chat != "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"), 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theriac", default="build/release/bin/theriac", type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path, help="make the models here and keep them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(arguments.theriac.resolve(), folder.resolve())
        two_adapters(bench)
        gpt2_adapter(bench)
        ties_of_three(bench, False, "ties")
        ties_of_three(bench, True, "tied")
        ties_of_three(bench, False, "torch_files", safe_serialization=False, max_shard_size="200KB")
        stacked(bench)
        stacked_types(bench)
        union(bench)
    print(f"{bench.passed} passed, {bench.failed} failed")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
