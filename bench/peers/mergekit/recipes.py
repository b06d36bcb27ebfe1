"""The recipes that both programs run. `RECIPES`: name -> Recipe; paths are relative to the checkpoints of generate.py's `tiny`."""
import dataclasses


@dataclasses.dataclass
class Recipe:
    document: dict
    # What of mergekit must be changed for equal bytes, by names of compare.py's CHANGES; nothing where the result is its own already.
    changes: tuple = ()
    native: bool = True  # run with --set accumulate=native


RECIPES = {}


def add(name, document, *changes):
    assert name not in RECIPES, name
    RECIPES[name] = Recipe(document, changes)


def models(folder, names, *parameters):
    out = []
    for i, name in enumerate(names):
        given = parameters[i] if i < len(parameters) else (parameters[-1] if parameters else {})
        entry = {"model": f"{folder}/{name}"}
        if given:
            entry["parameters"] = dict(given)
        out.append(entry)
    return out


def merge(method, listed, base=None, parameters=None, **keys):
    document = {"merge_method": method}
    if base:
        document["base_model"] = base
    document["models"] = listed
    if parameters:
        document["parameters"] = dict(parameters)
    return document | keys


WEIGHTS = ({"weight": 0.5}, {"weight": 0.3}, {"weight": 0.4})
DENSE = tuple(w | {"density": d} for w, d in zip(WEIGHTS, (0.5, 0.7, 0.3)))
SUM, SORT, MASK, ORDER, TOP = "exact sums", "stable sort", "our masks", "order of the recipe", "outliers of small tensors"
PRODUCT = "order of a low-rank sum"
FUNCTION, TYPE = "exact functions", "type of arcee_fusion"


def per_type(dtype):
    base, short = f"{dtype}/base", {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}[dtype]
    three = lambda *parameters: models(dtype, "abc", *parameters)  # noqa: E731
    two = lambda *parameters: models(dtype, "ab", *parameters)  # noqa: E731
    put = lambda name, document, *changes: add(f"{name} {short}", document, *changes)  # noqa: E731
    put("linear", merge("linear", three(*WEIGHTS)))
    put("linear plain", merge("linear", three(*WEIGHTS), parameters={"normalize": False}))
    put("passthrough", merge("passthrough", models(dtype, "a")))
    put("passthrough scaled", merge("passthrough", models(dtype, "a", {"scale": 0.3})))
    put("task_arithmetic", merge("task_arithmetic", three(*WEIGHTS), base, {"lambda": 0.7}))
    put("task_arithmetic normalised", merge("task_arithmetic", three(*WEIGHTS), base, {"normalize": True}))
    put("ties", merge("ties", three(*DENSE), base), SORT)
    put("ties plain", merge("ties", three(*DENSE), base, {"normalize": False, "lambda": 1.3}), SORT)
    put("ties negative", merge("ties", three({"weight": 0.6, "density": 0.4}, {"weight": -0.3, "density": 0.6}), base), SORT)
    put("ties int8_mask", merge("ties", three(*DENSE), base, {"int8_mask": True}), SORT)
    put("ties rescaled", merge("ties", three(*DENSE), base, {"rescale": True}), SORT, SUM)
    put("dare_linear", merge("dare_linear", three(*DENSE), base), MASK, SUM)
    put("dare_linear unscaled", merge("dare_linear", three(*DENSE), base, {"rescale": False}), MASK)
    put("dare_ties", merge("dare_ties", three(*DENSE), base), MASK, SUM)
    put("dare_ties normalised", merge("dare_ties", three(*DENSE), base, {"normalize": True, "rescale": False}), MASK)
    put("breadcrumbs", merge("breadcrumbs", three(*DENSE), base), SORT, TOP)
    put("breadcrumbs gamma", merge("breadcrumbs", three(*(d | {"gamma": 0.1} for d in DENSE)), base), SORT, TOP)
    put("breadcrumbs_ties", merge("breadcrumbs_ties", three(*DENSE), base), SORT, TOP)
    put("della", merge("della", three(*DENSE), base), MASK, SUM)
    put("della epsilon", merge("della", three(*(d | {"epsilon": 0.05} for d in DENSE)), base, {"rescale": False, "lambda": 1.1}), MASK)
    put("della_linear", merge("della_linear", three(*DENSE), base), MASK, SUM)
    put("slerp", merge("slerp", models(dtype, ["base", "a"]), base, {"t": 0.35}), SUM, FUNCTION)
    put("slerp far", merge("slerp", models(dtype, ["far-a", "far-b"]), f"{dtype}/far-a", {"t": 0.35}), SUM, FUNCTION)
    put("nuslerp", merge("nuslerp", two(*WEIGHTS)), SUM, FUNCTION)
    put("nuslerp far", merge("nuslerp", models(dtype, ["far-a", "far-b"], *WEIGHTS)), SUM, FUNCTION)
    put("nuslerp rows", merge("nuslerp", models(dtype, ["far-a", "far-b"], *WEIGHTS), parameters={"nuslerp_flatten": False}), SUM, FUNCTION)
    put("nuslerp columns", merge("nuslerp", models(dtype, ["far-a", "far-b"], *WEIGHTS),
                                 parameters={"nuslerp_flatten": False, "nuslerp_row_wise": True}), SUM, FUNCTION)
    put("nuslerp base", merge("nuslerp", two(*WEIGHTS), base), SUM, FUNCTION)
    put("multislerp", merge("multislerp", models(dtype, ["far-a", "far-b", "a"], *WEIGHTS)), ORDER, SUM, FUNCTION)
    put("multislerp base", merge("multislerp", three(*WEIGHTS), base), ORDER, SUM, FUNCTION)
    put("multislerp plain", merge("multislerp", three(*WEIGHTS), base, {"normalize_weights": False}), ORDER, SUM, FUNCTION)
    put("karcher", merge("karcher", models(dtype, ["far-a", "far-b", "a"])), SUM, FUNCTION)
    put("karcher near", merge("karcher", three(), parameters={"max_iter": 3}), SUM, FUNCTION)
    put("model_stock", merge("model_stock", three(), base), SUM)
    put("model_stock rows", merge("model_stock", three(), base, {"filter_wise": True}), SUM)
    put("sce", merge("sce", three(), base), ORDER, SUM)
    put("sce topk", merge("sce", three(), base, {"select_topk": 0.4}), ORDER, SUM, SORT)
    put("nearswap", merge("nearswap", models(dtype, "a"), base, {"t": 0.0005}))
    put("arcee_fusion", merge("arcee_fusion", models(dtype, "a"), base), SUM, FUNCTION, TYPE)


for each in ("bfloat16", "float16", "float32"):
    per_type(each)

# ---- element types -----------------------------------------------------------------------------
BF, FP16, FP32 = "bfloat16", "float16", "float32"
for source in (BF, FP16, FP32):
    for dtype in (BF, FP16, FP32):
        for out in (None, BF, FP16, FP32):
            if source == dtype and out in (None, dtype):
                continue
            keys = {"dtype": dtype} | ({"out_dtype": out} if out else {})
            add(f"task_arithmetic {source} as {dtype} to {out or 'the same'}", merge("task_arithmetic", models(source, "abc", *WEIGHTS), f"{source}/base", **keys))
add("linear, out_dtype alone", merge("linear", models(BF, "ab", *WEIGHTS), out_dtype=FP32))
add("ties, mixed inputs", merge("ties", [{"model": f"{FP32}/a", "parameters": DENSE[0]}, {"model": f"{FP16}/b", "parameters": DENSE[1]}], f"{BF}/base"), SORT)
add("ties, mixed inputs as fp32", merge("ties", [{"model": f"{BF}/a", "parameters": DENSE[0]}, {"model": f"{FP16}/b", "parameters": DENSE[1]}], f"{FP32}/base", dtype=FP32, out_dtype=FP16), SORT)
add("slerp, mixed inputs", merge("slerp", [{"model": f"{BF}/base"}, {"model": f"{FP32}/a"}], f"{BF}/base", {"t": 0.5}), SUM, FUNCTION)
add("torch. prefix", merge("linear", models(FP32, "ab", *WEIGHTS), dtype="torch.bfloat16"))

# ---- gradients, filters, precedence ------------------------------------------------------------
add("gradient of t", merge("slerp", models(FP32, ["base", "a"]), f"{FP32}/base", {"t": [0, 0.5, 0.3, 0.7, 1]}), SUM, FUNCTION)
add("filters of t", merge("slerp", models(FP32, ["base", "a"]), f"{FP32}/base", {"t": [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]}, {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]}, {"value": 0.5}]}), SUM, FUNCTION)
add("gradient of weights", merge("linear", models(BF, "ab", {"weight": [0.1, 0.9]}, {"weight": [0.9, 0.4, 0.1]})))
add("gradient of density", merge("ties", models(FP32, "ab", {"weight": 1, "density": [0.2, 0.8]}, {"weight": [0.5, 1.0, 0.25], "density": 0.5}), f"{FP32}/base"), SORT)
add("filters of weights", merge("task_arithmetic", models(BF, "ab", {"weight": [
    {"filter": "mlp", "value": 0.5}, {"filter": "embed_tokens", "value": 0.1}, {"value": 0.25}]}, {"weight": 0.5}), f"{BF}/base"))
add("filter without fallback", merge("task_arithmetic", models(BF, "ab", {"weight": [{"filter": "mlp", "value": 0.5}]}, {"weight": 0.5}), f"{BF}/base", {"weight": 0.125}))
add("star filter", merge("linear", models(BF, "ab", {"weight": [{"filter": "norm", "value": 1}, {"filter": "*", "value": 0.25}]}, {"weight": 0.5})))
add("weight of all models", merge("linear", models(BF, "abc"), parameters={"weight": 0.4, "normalize": False}))
add("numbers as text", merge("task_arithmetic", models(BF, "ab", {"weight": "0.5"}, {"weight": "1e-1"}), f"{BF}/base", {"lambda": "0.5"}))
add("normalise off by filter", merge("ties", models(FP32, "ab", *DENSE), f"{FP32}/base", {"normalize": [{"filter": "mlp", "value": False}, {"value": True}]}), SORT)
add("base among the models", merge("linear", models(BF, ["base", "a", "b"], *WEIGHTS), f"{BF}/base"))
add("base among the task vectors", merge("task_arithmetic", models(BF, ["a", "base", "b"], *WEIGHTS), f"{BF}/base"))
add("zero weight", merge("ties", models(FP32, "ab", {"weight": 0, "density": 0.5}, {"weight": 1, "density": 0.5}), f"{FP32}/base"), SORT)
add("density one", merge("ties", models(BF, "abc", {"weight": 0.5, "density": 1.0}), f"{BF}/base"))

# ---- slices, modules, tied weights, embeddings --------------------------------------------------
def slices(method, parts, base=None, parameters=None, **keys):
    out = {"merge_method": method}
    if base:
        out["base_model"] = base
    out["slices"] = [{"sources": [{"model": m, "layer_range": list(r)} | ({"parameters": p} if p else {}) for m, r, p in sources]}
                     | ({"parameters": own} if own else {}) for sources, own in parts]
    if parameters:
        out["parameters"] = dict(parameters)
    return out | keys


A, B, C, BASE = (f"{BF}/{name}" for name in ("a", "b", "c", "base"))
add("layers stacked", slices("passthrough", [([(A, (0, 4), None)], None), ([(B, (2, 6), None)], None)]))
add("layers stacked, some silent", slices("passthrough", [([(A, (0, 4), None)], None), ([(A, (2, 6), {
    "scale": [{"filter": "o_proj", "value": 0.0}, {"filter": "down_proj", "value": 0.0}, {"value": 1.0}]})], None)]))
add("layers stacked as fp16", slices("passthrough", [([(A, (0, 3), None)], None), ([(B, (3, 6), None)], None)], dtype=FP16))
add("slices of slerp", slices("slerp", [([(BASE, (0, 3), None), (A, (0, 3), None)], {"t": 0.25}), ([(BASE, (3, 6), None), (A, (3, 6), None)], {"t": [0.9, 0.1]})], BASE), SUM, FUNCTION)
add("slices of ties", slices("ties", [([(BASE, (0, 2), None), (A, (0, 2), DENSE[0]), (B, (0, 2), DENSE[1])], None), ([(BASE, (2, 6), None), (A, (2, 6), DENSE[1]), (B, (2, 6), DENSE[2])], None)], BASE), SORT)
add("slices of different layers", slices("linear", [([(A, (0, 3), {"weight": 0.5}), (B, (2, 5), {"weight": 0.25})], None)]))
add("one layer each", slices("linear", [([(A, (i, i + 1), {"weight": [0.2, 0.8]}), (B, (5 - i, 6 - i), {"weight": 0.5})], None) for i in range(3)]))
add("slice parameters over global ones", slices("slerp", [([(BASE, (0, 3), None), (A, (0, 3), None)], {"t": 0.75}), ([(BASE, (3, 6), None), (A, (3, 6), None)], None)], BASE, {"t": 0.125}), SUM, FUNCTION)
add("modules", {"merge_method": "linear", "modules": {"default": {"models": models(BF, "ab", *WEIGHTS)}}})
add("modules of slices", {"merge_method": "passthrough", "modules": {"default": {"slices": [{"sources": [{"model": A, "layer_range": [0, 4]}]}, {"sources": [{"model": B, "layer_range": [4, 6]}]}]}}})
add("tied, linear", merge("linear", models("tied", "abc", *WEIGHTS)))
add("tied, ties", merge("ties", models("tied", "ab", *DENSE), "tied/base"), SORT)
add("tied beside untied", merge("linear", [{"model": "tied/a", "parameters": {"weight": 0.5}}, {"model": B, "parameters": {"weight": 0.25}}]))
add("fewer rows of embeddings", merge("linear", [{"model": "vocabulary/fewer", "parameters": {"weight": 0.5}}, {"model": B, "parameters": {"weight": 0.25}}]))
add("more rows than the base", merge("task_arithmetic", [{"model": "vocabulary/more", "parameters": {"weight": 0.5}}, {"model": B, "parameters": {"weight": 0.25}}], BASE))
add("slerp of different rows", merge("slerp", [{"model": BASE}, {"model": "vocabulary/more"}], BASE, {"t": 0.5}), SUM, FUNCTION)

# ---- adapters ------------------------------------------------------------------------------------
add("adapter", merge("linear", [{"model": f"{FP32}/base+adapters/one", "parameters": {"weight": 0.5}}, {"model": f"{FP32}/a", "parameters": {"weight": 0.5}}]), PRODUCT)
add("two adapters", merge("task_arithmetic", [{"model": f"{FP32}/base+adapters/one", "parameters": {"weight": 0.5}}, {"model": f"{FP32}/base+adapters/two", "parameters": {"weight": 0.5}}], f"{FP32}/base"), PRODUCT)
add("adapter bf16", merge("ties", [{"model": f"{BF}/base+adapters/one", "parameters": DENSE[0]}, {"model": A, "parameters": DENSE[1]}], BASE), SORT)
