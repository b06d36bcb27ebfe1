"""What sets mergekit's bytes apart from ours, each as a change to mergekit under which the bytes become equal: that they do is the
proof that nothing else differs. `with applied(names): run_merge(...)`."""
import contextlib
import types
import unittest.mock

import mergekit.merge_methods.easy_define as easy_define
import mergekit.merge_methods.generalized_task_arithmetic as gta
import mergekit.sparsify as sparsify
import numpy as np
import torch
import xxhash

REASONS = {
    "stable sort": "which of equal magnitudes an unstable sort puts first is chance; here the lowest index comes first",
    "our masks": "random masks: same distribution, other draws (mergekit: one generator in order of execution; here: Philox by element)",
    "exact sums": "float32 sums over a tensor depend on their order, hence on threads and vector width; here they are rounded once",
    "exact functions": "sine, exponential and logarithm of float32 are a unit or so off in vector libraries; here they are rounded once",
    "type of arcee_fusion": "defect: a float32 mask makes the result float32 whatever the type of the models",
    "order of the recipe": "mergekit adds the models in the order of a hash set, which differs from run to run",
    "order of a low-rank sum": "the float32 sums of B A depend on the matrix library; here they run over the rank in order, unfused",
    "outliers of small tensors": "defect: with int(gamma n) = 0 mergekit's slice is empty and the whole difference is dropped",
}


# ---- our random numbers -----------------------------------------------------------------------

def _mix(z):
    mask = (1 << 64) - 1
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def random_words(seed, name, model, count):
    """Word i % 4 of Philox4x32-10 block i / 4, i = 0 ... count - 1: cpp/core/merge/methods/sparsify.h."""
    key = _mix(_mix((seed + 0x9E3779B97F4A7C15) & ((1 << 64) - 1)) ^ xxhash.xxh3_64_intdigest(name.encode()))
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    c = [blocks & low, blocks >> shift, np.full_like(blocks, model & 0xFFFFFFFF), np.full_like(blocks, model >> 32)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> shift) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> shift) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).reshape(-1)[:count]


class OurMasks:
    """Remembers which tensor and model mergekit is at, and draws for it as we do."""

    def __init__(self, seed=0):
        self.seed, self.name, self.positions = seed, "", iter(())

    def kept(self, shape, probability):
        count, model = int(np.prod(shape)), next(self.positions)
        upper = random_words(self.seed, self.name, model | 1 << 63, (count + 3) // 4).astype("<u4").view(np.uint8)[:count]
        numbers = upper * 2.0**32 + random_words(self.seed, self.name, model, count)
        return torch.from_numpy((numbers < np.ceil(probability * 2.0**40)).astype(np.float32)).reshape(shape)

    def kept_by_rank(self, shape, probabilities):
        words = random_words(self.seed, self.name, next(self.positions), int(np.prod(shape))).astype(np.float64)
        limits = np.ceil(np.clip(probabilities, 0, 1) * 2.0**32)
        return torch.from_numpy((words < limits).astype(np.float32)).reshape(shape)

    def execute(self, task, tensors, **others):
        self.name = task.weight_info.name
        parameters = task.tensor_parameters.data
        order = [(i, model) for i, model in enumerate(tensors) if model != task.base_model]
        self.positions = iter([i for i, model in order if 0 < parameters[model]["density"] < 1])
        return _EXECUTE(task, tensors, **others)

    @staticmethod
    def work_type(tensor):
        return tensor.dtype if tensor.dtype == torch.bfloat16 else torch.float32

    def bernoulli(self, tensor, density, rescale_norm=None):
        if density >= 1:
            return tensor
        if density <= 0:
            return torch.zeros_like(tensor)
        work = self.work_type(tensor)
        mask = self.kept(tensor.shape, density).to(work)
        return sparsify.rescaled_masked_tensor(tensor.to(work), mask, rescale_norm).to(tensor.dtype)

    def ranked(self, tensor, density, epsilon, rescale_norm=None):
        if density >= 1 or density <= 0:
            return self.bernoulli(tensor, density, rescale_norm)
        rows = tensor.reshape(1, -1) if tensor.dim() < 2 else tensor.reshape(tensor.shape[0], -1)
        n = rows.shape[1]
        order = torch.argsort(rows.abs().float(), dim=1, descending=True, stable=True)
        ranks = torch.empty_like(order)
        ranks.scatter_(1, order, torch.arange(n - 1, -1, -1).expand_as(order).contiguous())
        u = ranks.double().numpy() / (n - 1) if n > 1 else np.full(rows.shape, 0.5)
        work = self.work_type(tensor)
        mask = self.kept_by_rank(tensor.shape, (density - epsilon + 2 * epsilon * u).reshape(-1)).to(work)
        return sparsify.rescaled_masked_tensor(tensor.to(work), mask, rescale_norm).to(tensor.dtype)


_EXECUTE = gta.GTATask.execute


# ---- the other changes ------------------------------------------------------------------------

_argsort, _sum, _tensor_sum = torch.argsort, torch.sum, torch.Tensor.sum


def stable_argsort(x, dim=-1, descending=False, **others):
    return _argsort(x, dim=dim, descending=descending, stable=True)


class _Sorted:
    def __init__(self, indices):
        self.indices = indices


def descending_backwards(x, dim=-1, descending=False, **others):
    order = _argsort(x, dim=dim, descending=True, stable=True)
    return _Sorted(order if descending else order.flip(dim))


def stable_topk(x, k, **others):
    indices = _argsort(x, descending=True, stable=True)[:k]
    return x[indices], indices


def exactly(function):
    """The function in float64, rounded to float32 and to the tensor's type. Sums over the models (dim 0) stay as they are."""
    def call(x, *positional, **named):
        dim = named.get("dim", positional[0] if positional else None)
        if isinstance(dim, int) and dim == 0:
            return function(x, *positional, **named)
        if not torch.is_tensor(x) or not x.is_floating_point() or x.dtype == torch.float64:
            return function(x, *positional, **named)
        others = [o.double() if torch.is_tensor(o) else o for o in positional]
        return function(x.double(), *others, **named).float().to(x.dtype)
    return call


def exact_numpy_sum(x):
    return np.float32(np.sum(x, dtype=np.float64))


def exact_numpy_function(function):
    return lambda x: np.float32(function(np.float64(x)))


def exact_numpy_norm(x):
    return np.float32(np.sqrt(np.sum(np.square(x, dtype=np.float64))))


class RecipeOrder(dict):
    """A set in order of insertion."""

    def __init__(self, values=()):
        super().__init__((value, None) for value in values)

    def remove(self, value):
        del self[value]


def outliers(tensor, density, rescale_norm=None, gamma=0.01):
    if density >= 1:
        return tensor
    n = tensor.numel()
    keep = max(1, int(density * n))
    top = min(int(gamma * n), n - keep)
    order = _argsort(tensor.abs().reshape(-1).float(), descending=True, stable=True)
    mask = torch.zeros_like(tensor)
    mask.view(-1)[order[top:top + keep]] = 1
    return sparsify.rescaled_masked_tensor(tensor, mask, rescale_norm)


def low_rank_product(self, adapter):
    a, b = self.lora_A[adapter].weight.float(), self.lora_B[adapter].weight.float()
    total = torch.zeros(b.shape[0], a.shape[1])
    for k in range(a.shape[0]):
        total = total + b[:, k:k + 1] * a[k:k + 1, :]
    return total * self.scaling[adapter]


def patches_of(name):
    patch = unittest.mock.patch.object
    if name == "order of a low-rank sum":
        import peft.tuners.lora.layer as layer
        return [patch(layer.Linear, "get_delta_weight", low_rank_product)]
    if name == "stable sort":
        return [patch(torch, "argsort", stable_argsort), patch(torch, "sort", descending_backwards), patch(torch, "topk", stable_topk)]
    if name == "our masks":
        masks = OurMasks()
        return [patch(gta.GTATask, "execute", lambda task, tensors, **others: masks.execute(task, tensors, **others)),
                patch(sparsify, "bernoulli", masks.bernoulli), patch(sparsify, "della_magprune", masks.ranked)]
    if name == "exact sums":
        import mergekit.merge_methods.slerp as slerp
        numpy = types.SimpleNamespace(**vars(slerp.np))
        numpy.sum, numpy.linalg = exact_numpy_sum, types.SimpleNamespace(norm=exact_numpy_norm)
        out = [patch(torch, function, exactly(getattr(torch, function))) for function in ("sum", "norm", "mean", "dot", "var")]
        out += [patch(torch.Tensor, function, exactly(getattr(torch.Tensor, function))) for function in ("sum", "mean")]
        return out + [patch(torch.linalg, "norm", exactly(torch.linalg.norm)), patch(slerp, "np", numpy)]
    if name == "exact functions":
        import mergekit.merge_methods.arcee_fusion as arcee
        import mergekit.merge_methods.slerp as slerp
        numpy = types.SimpleNamespace(**vars(slerp.np))
        numpy.sin, numpy.arccos = exact_numpy_function(np.sin), exact_numpy_function(np.arccos)
        out = [patch(torch, function, exactly(getattr(torch, function))) for function in ("sin", "cos", "acos", "arccos", "log")]
        return out + [patch(slerp, "np", numpy), patch(arcee.F, "softmax", exactly(arcee.F.softmax))]
    if name == "type of arcee_fusion":
        import mergekit.merge_methods.arcee_fusion as arcee
        original = arcee.DynamicThresholdFusion.compute_fusion_mask

        def mask_of_its_type(self, scores):
            mask, threshold = original(self, scores)
            return mask.to(scores.dtype), threshold
        return [patch(arcee.DynamicThresholdFusion, "compute_fusion_mask", mask_of_its_type)]
    if name == "order of the recipe":
        return [unittest.mock.patch.object(easy_define, "set", RecipeOrder, create=True)]
    if name == "outliers of small tensors":
        return [patch(sparsify, "magnitude_outliers", outliers)]
    raise KeyError(name)


@contextlib.contextmanager
def applied(names):
    with contextlib.ExitStack() as stack:
        for name in names:
            for patch in patches_of(name):
                stack.enter_context(patch)
        yield
