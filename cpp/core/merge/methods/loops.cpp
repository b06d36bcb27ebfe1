#include "cpp/core/merge/methods/loops.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "cpp/core/merge/methods/order_statistics.h"
#include "cpp/core/merge/methods/rounding.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpp/core/merge/methods/loops.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once a target
//
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace theriac::merge::methods::loops::HWY_NAMESPACE {

// Calls body(rounding) with the type that stands for `rounding`.
template <class Body>
HWY_INLINE void with(Rounding rounding, Body&& body) {
  switch (rounding) {
    case Rounding::kNone:
      return body(Float32Rounding{});
    case Rounding::kBF16:
      return body(BFloat16Rounding{});
    case Rounding::kF16:
      return body(Float16Rounding{});
  }
}

template <class R>
void subtract_as(R r, const float* HWY_RESTRICT model, const float* HWY_RESTRICT base,
                 std::size_t n, float* HWY_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = r.round(model[i] - base[i]);
}
void subtract(Rounding rounding, const float* model, const float* base, std::size_t n, float* out) {
  with(rounding, [&](auto r) { subtract_as(r, model, base, n, out); });
}

template <class R>
void multiply_as(R r, float factor, std::size_t n, float* HWY_RESTRICT x) {
  for (std::size_t i = 0; i < n; ++i) x[i] = r.round(x[i] * factor);
}
void multiply(Rounding rounding, float factor, std::size_t n, float* x) {
  with(rounding, [&](auto r) { multiply_as(r, factor, n, x); });
}

template <class R>
void keys_as(R r, const float* HWY_RESTRICT model, const float* HWY_RESTRICT base, std::size_t n,
             std::uint32_t* HWY_RESTRICT keys) {
  for (std::size_t i = 0; i < n; ++i) keys[i] = magnitude_key(r.round(model[i] - base[i]));
}
void difference_keys(Rounding rounding, const float* model, const float* base, std::size_t n,
                     std::uint32_t* keys) {
  with(rounding, [&](auto r) { keys_as(r, model, base, n, keys); });
}

// Of 64 keys, a bit each from the lowest up: whether the upper half is `upper`.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE std::uint64_t upper_halves_equal(const std::uint32_t* HWY_RESTRICT keys,
                                            std::uint32_t upper) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 64; ++i) out |= std::uint64_t{keys[i] >> 16 == upper} << i;
  return out;
}
#else
HWY_INLINE std::uint64_t upper_halves_equal(const std::uint32_t* HWY_RESTRICT keys,
                                            std::uint32_t upper) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<std::uint32_t, 8> tag;
  const std::size_t lanes = hn::Lanes(tag);
  const auto wanted = hn::Set(tag, upper);
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 64; i += lanes) {
    std::uint8_t bits[8];
    hn::StoreMaskBits(tag, hn::Eq(hn::ShiftRight<16>(hn::LoadU(tag, keys + i)), wanted), bits);
    out |= std::uint64_t{bits[0]} << i;
  }
  return out;
}
#endif

std::size_t lower_halves(const std::uint32_t* HWY_RESTRICT keys, std::uint32_t upper, std::size_t n,
                         std::uint16_t* HWY_RESTRICT halves) {
  constexpr std::size_t kGroup = 64;
  std::size_t found = 0, first = 0;
  for (; first + kGroup <= n; first += kGroup) {
    for (std::uint64_t bits = upper_halves_equal(keys + first, upper); bits != 0;
         bits &= bits - 1) {
      halves[found++] = static_cast<std::uint16_t>(keys[first + std::countr_zero(bits)]);
    }
  }
  for (; first < n; ++first) {
    if (keys[first] >> 16 == upper) halves[found++] = static_cast<std::uint16_t>(keys[first]);
  }
  return found;
}

void widen(const std::uint32_t* HWY_RESTRICT keys, std::size_t n, KeyRange& range) {
  std::uint32_t smallest = range.smallest - 1, largest = range.largest;
  for (std::size_t i = 0; i < n; ++i) {
    smallest = std::min(smallest, keys[i] - 1);  // 0 becomes the largest of all
    largest = std::max(largest, keys[i]);
  }
  range = {smallest + 1, largest};
}

std::size_t take_counts(std::uint32_t* HWY_RESTRICT a, std::uint32_t* HWY_RESTRICT b, std::size_t n,
                        std::uint16_t* HWY_RESTRICT indices, std::uint32_t* HWY_RESTRICT sums) {
  constexpr std::size_t kGroup = 16;
  std::size_t found = 0;
  for (std::size_t first = 0; first < n; first += kGroup) {
    std::uint32_t any = 0;
    for (std::size_t i = first; i < first + kGroup; ++i) any |= a[i] | b[i];
    if (any == 0) continue;
    for (std::size_t i = first; i < first + kGroup; ++i) {
      const std::uint32_t sum = a[i] + b[i];
      a[i] = b[i] = 0;
      if (sum == 0) continue;
      indices[found] = static_cast<std::uint16_t>(i);
      sums[found++] = sum;
    }
  }
  return found;
}

void keep_largest(Cut kept, const Cut* dropped, std::size_t n, float* HWY_RESTRICT x) {
  const auto count = static_cast<std::uint32_t>(n);
  const auto inside = [](Cut cut, std::uint32_t key, std::uint32_t i) {
    return mask_of(key > cut.key) | (mask_of(key == cut.key) & mask_of(i < cut.limit));
  };
  if (dropped == nullptr) {
    for (std::uint32_t i = 0; i < count; ++i) {
      x[i] = masked(x[i], inside(kept, magnitude_key(x[i]), i));
    }
    return;
  }
  const Cut out = *dropped;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t key = magnitude_key(x[i]);
    x[i] = masked(x[i], inside(kept, key, i) & ~inside(out, key, i));
  }
}

// Of 32 bytes, a bit each from the lowest up.
struct Compared {
  std::uint32_t at_most, equal;
};
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE Compared compared(const std::uint8_t* HWY_RESTRICT bytes, std::uint8_t last) {
  Compared out{0, 0};
  for (std::size_t i = 0; i < 32; ++i) {
    out.at_most |= std::uint32_t{bytes[i] <= last} << i;
    out.equal |= std::uint32_t{bytes[i] == last} << i;
  }
  return out;
}
#else
HWY_INLINE Compared compared(const std::uint8_t* HWY_RESTRICT bytes, std::uint8_t last) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<std::uint8_t, 32> tag;
  const auto limit = hn::Set(tag, last);
  std::uint8_t at_most[16], equal[16];  // one store may write eight bytes, of which few count
  for (std::size_t i = 0; i < 32; i += hn::Lanes(tag)) {
    const auto v = hn::LoadU(tag, bytes + i);
    hn::StoreMaskBits(tag, hn::Eq(hn::Min(v, limit), v), at_most + i / 8);
    hn::StoreMaskBits(tag, hn::Eq(v, limit), equal + i / 8);
  }
  const auto bits = [](const std::uint8_t* from) {
    return std::uint32_t{from[0]} | std::uint32_t{from[1]} << 8 | std::uint32_t{from[2]} << 16 |
           std::uint32_t{from[3]} << 24;
  };
  return {bits(at_most), bits(equal)};
}
#endif

std::size_t draw(const std::uint8_t* HWY_RESTRICT bytes, std::uint8_t last, std::size_t n,
                 std::uint8_t* HWY_RESTRICT bits, std::uint32_t* HWY_RESTRICT undecided) {
  constexpr std::size_t kGroup = 32;
  std::size_t found = 0;
  for (std::size_t first = 0; first < n; first += kGroup) {
    const std::size_t size = std::min(kGroup, n - first);
    Compared group{};
    if (size == kGroup) {
      group = compared(bytes + first, last);
    } else {
      std::uint8_t padded[kGroup] = {};
      std::copy(bytes + first, bytes + n, padded);
      group = compared(padded, last);
      group.equal &= (std::uint32_t{1} << size) - 1;
    }
    for (std::size_t b = 0; b < (size + 7) / 8; ++b) {
      bits[first / 8 + b] = static_cast<std::uint8_t>(group.at_most >> (8 * b));
    }
    for (; group.equal != 0; group.equal &= group.equal - 1) {
      undecided[found++] = static_cast<std::uint32_t>(first) +
                           static_cast<std::uint32_t>(std::countr_zero(group.equal));
    }
  }
  return found;
}

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void keep_byte(std::uint32_t byte, const float* x, float* out) {
  for (std::size_t l = 0; l < 8; ++l) out[l] = masked(x[l], mask_of((byte >> l & 1U) != 0));
}
#else
HWY_INLINE void keep_byte(std::uint32_t byte, const float* x, float* out) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<std::uint32_t, 8> tag;
  const hn::Rebind<float, decltype(tag)> floats;
  const std::uint32_t lanes[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const auto bits = hn::Set(tag, byte);
  for (std::size_t l = 0; l < 8; l += hn::Lanes(tag)) {
    const auto is_set = hn::TestBit(bits, hn::LoadU(tag, lanes + l));
    const auto values = hn::LoadU(floats, x + l);
    hn::StoreU(hn::IfThenElseZero(hn::RebindMask(floats, is_set), values), floats, out + l);
  }
}
#endif

void keep(const std::uint8_t* bits, std::size_t n, const float* x, float* out) {
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) keep_byte(bits[i / 8], x + i, out + i);
  for (; i < n; ++i) out[i] = masked(x[i], mask_of((bits[i / 8] >> (i % 8) & 1U) != 0));
}

constexpr std::size_t kLanes = 16;  // blocks that are made side by side
constexpr std::uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
constexpr int kRounds = 10;

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void philox_blocks(std::uint64_t key, std::uint64_t model, std::uint64_t block,
                              std::uint32_t* HWY_RESTRICT words) {
  for (std::size_t l = 0; l < kLanes; ++l) {
    const std::uint64_t id = block + l;
    std::uint32_t c[4] = {static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(id >> 32),
                          static_cast<std::uint32_t>(model),
                          static_cast<std::uint32_t>(model >> 32)};
    auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int i = 0; i < kRounds; ++i, k0 += kWeyl0, k1 += kWeyl1) {
      const std::uint64_t p0 = std::uint64_t{kMultiplier0} * c[0];
      const std::uint64_t p1 = std::uint64_t{kMultiplier1} * c[2];
      c[0] = static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0;
      c[1] = static_cast<std::uint32_t>(p1);
      c[2] = static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1;
      c[3] = static_cast<std::uint32_t>(p0);
    }
    for (std::size_t w = 0; w < 4; ++w) words[4 * l + w] = c[w];
  }
}
#else
// Each block in the lower halves of four 64-bit lanes: what one multiplication reads. The upper halves
// hold what is left of earlier products and is never looked at.
HWY_INLINE void philox_blocks(std::uint64_t key, std::uint64_t model, std::uint64_t block,
                              std::uint32_t* HWY_RESTRICT words) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<std::uint64_t, kLanes / 2> wide;
  const hn::Repartition<std::uint32_t, decltype(wide)> narrow;
  using V = hn::Vec<decltype(wide)>;
  const auto product = [&](V counter, std::uint32_t multiplier) HWY_ATTR {
    return hn::MulEven(hn::BitCast(narrow, counter), hn::Set(narrow, multiplier));
  };
  const auto round = [&](V& c0, V& c1, V& c2, V& c3, V k0, V k1) HWY_ATTR {
    const V p0 = product(c0, kMultiplier0), p1 = product(c2, kMultiplier1);
    c0 = hn::Xor(hn::ShiftRight<32>(p1), hn::Xor(c1, k0));
    c2 = hn::Xor(hn::ShiftRight<32>(p0), hn::Xor(c3, k1));
    c1 = p1;
    c3 = p0;
  };
  const V lower = hn::Set(wide, 0xffffffffU);
  const auto store = [&](V c0, V c1, V c2, V c3, std::uint32_t* HWY_RESTRICT to) HWY_ATTR {
    const V first = hn::Or(hn::And(c0, lower), hn::ShiftLeft<32>(c1));
    const V second = hn::Or(hn::And(c2, lower), hn::ShiftLeft<32>(c3));
    HWY_ALIGN std::uint64_t pairs[kLanes];
    hn::StoreInterleaved2(first, second, wide, pairs);
    std::memcpy(to, pairs, 2 * hn::Lanes(wide) * sizeof(std::uint64_t));
  };
  const std::size_t lanes = hn::Lanes(wide);
  for (std::size_t l = 0; l < kLanes;
       l += 2 * lanes) {  // two at a time: one hides the other's delay
    const V ids = hn::Iota(wide, block + l);
    const V later = hn::Add(ids, hn::Set(wide, lanes));
    V a0 = ids, a1 = hn::ShiftRight<32>(ids), b0 = later, b1 = hn::ShiftRight<32>(later);
    V a2 = hn::Set(wide, model), a3 = hn::Set(wide, model >> 32), b2 = a2, b3 = a3;
    auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
    for (int i = 0; i < kRounds; ++i, k0 += kWeyl0, k1 += kWeyl1) {
      const V v0 = hn::Set(wide, k0), v1 = hn::Set(wide, k1);
      round(a0, a1, a2, a3, v0, v1);
      round(b0, b1, b2, b3, v0, v1);
    }
    store(a0, a1, a2, a3, words + 4 * l);
    store(b0, b1, b2, b3, words + 4 * (l + lanes));
  }
}
#endif

void philox(std::uint64_t key, std::uint64_t model, std::uint64_t first, std::size_t n,
            std::uint32_t* words) {
  constexpr std::size_t kBatch = 4 * kLanes;
  std::uint32_t batch[kBatch];
  for (std::size_t done = 0; done < n;) {
    const std::uint64_t index = first + done;
    const auto skipped = static_cast<std::size_t>(index % 4);
    if (skipped == 0 && n - done >= kBatch) {
      philox_blocks(key, model, index / 4, words + done);
      done += kBatch;
      continue;
    }
    philox_blocks(key, model, index / 4, batch);
    const std::size_t count = std::min(kBatch - skipped, n - done);
    for (std::size_t i = 0; i < count; ++i) words[done + i] = batch[skipped + i];
    done += count;
  }
}

// What the two functions below do where nothing is rounded: whole bytes of bits, eight elements each.
HWY_INLINE void add_magnitudes_of_bytes(const float* HWY_RESTRICT model,
                                        const float* HWY_RESTRICT base,
                                        const std::uint8_t* HWY_RESTRICT bits, std::size_t bytes,
                                        double* HWY_RESTRICT all, double* HWY_RESTRICT kept) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<double, 4> doubles;
  const hn::Rebind<float, decltype(doubles)> floats;
  const hn::Rebind<std::uint32_t, decltype(doubles)> words;
  const std::size_t lanes = hn::Lanes(doubles);
  const std::uint32_t of_lanes[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  for (std::size_t l = 0; l < 8;
       l += 2 * lanes) {  // two sums at a time: one hides the other's delay
    const std::size_t h = (l + lanes) % 8;
    const auto lower = hn::LoadU(words, of_lanes + l), upper = hn::LoadU(words, of_lanes + h);
    auto all0 = hn::LoadU(doubles, all + l), all1 = hn::LoadU(doubles, all + h);
    auto kept0 = hn::LoadU(doubles, kept + l), kept1 = hn::LoadU(doubles, kept + h);
    for (std::size_t i = 0; i < bytes; ++i) {
      const auto byte = hn::Set(words, bits[i]);
      const auto magnitude = [&](std::size_t at) HWY_ATTR {
        return hn::Abs(
            hn::Sub(hn::LoadU(floats, model + 8 * i + at), hn::LoadU(floats, base + 8 * i + at)));
      };
      const auto if_kept = [&](auto value, auto bit) HWY_ATTR {
        return hn::IfThenElseZero(hn::RebindMask(floats, hn::TestBit(byte, bit)), value);
      };
      const auto x = magnitude(l), y = magnitude(h);
      all0 = hn::Add(all0, hn::PromoteTo(doubles, x));
      all1 = hn::Add(all1, hn::PromoteTo(doubles, y));
      kept0 = hn::Add(kept0, hn::PromoteTo(doubles, if_kept(x, lower)));
      kept1 = hn::Add(kept1, hn::PromoteTo(doubles, if_kept(y, upper)));
    }
    hn::StoreU(all0, doubles, all + l);
    hn::StoreU(all1, doubles, all + h);
    hn::StoreU(kept0, doubles, kept + l);
    hn::StoreU(kept1, doubles, kept + h);
  }
}

void add_exact_magnitudes(const float* HWY_RESTRICT model, const float* HWY_RESTRICT base,
                          const std::uint8_t* HWY_RESTRICT bits, std::size_t n,
                          double* HWY_RESTRICT all, double* HWY_RESTRICT kept) {
  add_magnitudes_of_bytes(model, base, bits, n / 8, all, kept);
  if (n % 8 == 0) return;
  float last_model[8] = {}, last_base[8] = {};
  std::copy(model + n / 8 * 8, model + n, last_model);
  std::copy(base + n / 8 * 8, base + n, last_base);
  add_magnitudes_of_bytes(last_model, last_base, bits + n / 8, 1, all, kept);
}

void add_magnitudes(Rounding rounding, const float* model, const float* base,
                    const std::uint8_t* bits, std::size_t n, double* all, double* kept) {
  if (rounding == Rounding::kNone) return add_exact_magnitudes(model, base, bits, n, all, kept);
  constexpr std::size_t kRun = 256;
  float differences[kRun];
  const float zeros[kRun] = {};
  for (std::size_t first = 0; first < n; first += kRun) {
    const std::size_t count = std::min(kRun, n - first);
    with(rounding,
         [&](auto r) { subtract_as(r, model + first, base + first, count, differences); });
    add_exact_magnitudes(differences, zeros, bits + first / 8, count, all, kept);
  }
}

HWY_INLINE void exact_differences_of_bytes(const float* HWY_RESTRICT model,
                                           const float* HWY_RESTRICT base,
                                           const std::uint8_t* HWY_RESTRICT bits, std::size_t bytes,
                                           float factor, float* HWY_RESTRICT out) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::CappedTag<float, 8> floats;
  const hn::RebindToUnsigned<decltype(floats)> words;
  const std::size_t lanes = hn::Lanes(floats);
  const std::uint32_t of_lanes[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const auto factors = hn::Set(floats, factor);
  for (std::size_t l = 0; l < 8; l += lanes) {
    const auto bit = hn::LoadU(words, of_lanes + l);
    for (std::size_t i = l; i < 8 * bytes; i += 8) {
      const auto is_kept = hn::RebindMask(floats, hn::TestBit(hn::Set(words, bits[i / 8]), bit));
      const auto d = hn::Sub(hn::LoadU(floats, model + i), hn::LoadU(floats, base + i));
      hn::StoreU(hn::IfThenElseZero(is_kept, hn::Mul(d, factors)), floats, out + i);
    }
  }
}

template <class R>
void differences_times(R r, const float* HWY_RESTRICT model, const float* HWY_RESTRICT base,
                       float factor, std::size_t n, float* HWY_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = r.round(r.round(model[i] - base[i]) * factor);
}
void kept_differences(Rounding rounding, const float* model, const float* base,
                      const std::uint8_t* bits, float factor, std::size_t n, float* out) {
  const std::size_t done = rounding == Rounding::kNone ? n / 8 * 8 : 0;
  if (done != 0) exact_differences_of_bytes(model, base, bits, done / 8, factor, out);
  with(rounding, [&](auto r) {
    differences_times(r, model + done, base + done, factor, n - done, out + done);
  });
  HWY_NAMESPACE::keep(bits + done / 8, n - done, out + done, out + done);
}

template <class R>
void add_product_as(R r, float w, const float* HWY_RESTRICT d, std::size_t n,
                    float* HWY_RESTRICT sums) {
  for (std::size_t i = 0; i < n; ++i) sums[i] += r.round(w * d[i]);
}
void add_product(Rounding rounding, float w, const float* d, std::size_t n, float* sums) {
  with(rounding, [&](auto r) { add_product_as(r, w, d, n, sums); });
}

template <class R>
void divide_as(R r, float divisor, std::size_t n, float* HWY_RESTRICT mix) {
  for (std::size_t i = 0; i < n; ++i) mix[i] = r.round(r.round(mix[i]) / divisor);
}
void divide(Rounding rounding, float divisor, std::size_t n, float* mix) {
  with(rounding, [&](auto r) { divide_as(r, divisor, n, mix); });
}

// kGroup elements at a time stay in registers while the models pass, once to vote and once to be added.
template <std::size_t kGroup, bool kLargest, class R>
HWY_INLINE void elect_group(R r, const Election& election, const float* HWY_RESTRICT differences,
                            std::size_t stride, float* HWY_RESTRICT mix) {
  float sums[kGroup] = {}, divisors[kGroup] = {};
  std::uint32_t elected[kGroup];
  for (std::size_t m = 0; m < election.models; ++m) {
    const float* d = differences + m * stride;
    const float vote = election.votes[m];
    for (std::size_t l = 0; l < kGroup; ++l) sums[l] += r.round(vote * d[l]);
  }
  const std::uint32_t zeros = mask_of(election.zero_is_minus);
  for (std::size_t l = 0; l < kGroup; ++l) {
    const float sum = r.round(sums[l]);
    elected[l] = (mask_of(sum < 0) | (mask_of(sum == 0) & zeros)) & 0x80000000U;
    sums[l] = 0;
  }
  for (std::size_t m = 0; m < election.models; ++m) {
    const float* d = differences + m * stride;
    const float vote = election.votes[m], weight = election.weights[m];
    for (std::size_t l = 0; l < kGroup; ++l) {
      const auto bits = std::bit_cast<std::uint32_t>(r.round(vote * d[l]));
      // NaN agrees with either sign: it is not lost.
      const std::uint32_t agrees = mask_of(!(std::bit_cast<float>(bits ^ elected[l]) <= 0));
      const float value = masked(r.round(weight * d[l]), agrees);
      if constexpr (kLargest) {
        sums[l] = selected(value, sums[l], mask_of(magnitude_key(value) > magnitude_key(sums[l])));
      } else {
        sums[l] += value;
      }
      divisors[l] += masked(vote, agrees);
    }
  }
  const std::uint32_t keeps = mask_of(!election.divides);
  for (std::size_t l = 0; l < kGroup; ++l) {
    const float divisor = r.round(divisors[l]);
    const float safe = selected(1.0F, divisor, keeps | mask_of(divisor == 0));
    mix[l] = r.round(r.round(sums[l]) / safe);
  }
}
template <bool kLargest>
void mix_elected_as(Rounding rounding, const Election& election, const float* differences,
                    std::size_t stride, std::size_t n, float* mix) {
  constexpr std::size_t kGroup = 16;
  with(rounding, [&](auto r) {
    std::size_t i = 0;
    for (; i + kGroup <= n; i += kGroup) {
      elect_group<kGroup, kLargest>(r, election, differences + i, stride, mix + i);
    }
    for (; i < n; ++i) {
      elect_group<1, kLargest>(r, election, differences + i, stride, mix + i);
    }
  });
}
void mix_elected(Rounding rounding, const Election& election, const float* differences,
                 std::size_t stride, std::size_t n, float* mix) {
  const auto mixes = election.largest ? mix_elected_as<true> : mix_elected_as<false>;
  mixes(rounding, election, differences, stride, n, mix);
}

template <class R>
void add_to_base_as(R r, float lambda, const float* HWY_RESTRICT base,
                    const float* HWY_RESTRICT mix, std::size_t n, float* HWY_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) {
    const float scaled = r.round(mix[i] * lambda);
    out[i] = selected(base[i], r.round(base[i] + scaled), mask_of(scaled == 0));
  }
}
void add_to_base(Rounding rounding, float lambda, const float* base, const float* mix,
                 std::size_t n, float* out) {
  with(rounding, [&](auto r) { add_to_base_as(r, lambda, base, mix, n, out); });
}

// kGroup sums at a time stay in registers while the models pass.
template <std::size_t kGroup>
HWY_INLINE void weigh_group(const double* HWY_RESTRICT weights, const float* const* x,
                            std::size_t models, std::size_t at, double factor, float* out) {
  double sums[kGroup];
  for (std::size_t l = 0; l < kGroup; ++l) sums[l] = weights[0] * static_cast<double>(x[0][at + l]);
  for (std::size_t m = 1; m < models; ++m) {
    const float* values = x[m] + at;
    const double w = weights[m];
    for (std::size_t l = 0; l < kGroup; ++l) sums[l] += w * static_cast<double>(values[l]);
  }
  for (std::size_t l = 0; l < kGroup; ++l) out[l] = static_cast<float>(sums[l] * factor);
}
void weigh(const double* weights, const float* const* x, std::size_t models, double factor,
           std::size_t n, float* out) {
  constexpr std::size_t kGroup = 16;
  std::size_t i = 0;
  for (; i + kGroup <= n; i += kGroup) weigh_group<kGroup>(weights, x, models, i, factor, out + i);
  for (; i < n; ++i) weigh_group<1>(weights, x, models, i, factor, out + i);
}

Outcome compare(const float* HWY_RESTRICT values, const float* HWY_RESTRICT rounded,
                const float* HWY_RESTRICT base, std::size_t n) {
  std::uint32_t changed = 0, lost = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t moved = values[i] != base[i] ? 1U : 0U;
    changed += moved;
    lost += (rounded[i] == base[i] ? 1U : 0U) & moved;
  }
  return {changed, lost};
}

std::uint32_t count_non_finite(const float* HWY_RESTRICT values, std::size_t n) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) {
    sum += (std::bit_cast<std::uint32_t>(values[i]) & 0x7f800000U) == 0x7f800000U ? 1U : 0U;
  }
  return sum;
}

}  // namespace theriac::merge::methods::loops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace theriac::merge::methods::loops {

HWY_EXPORT(subtract);
HWY_EXPORT(multiply);
HWY_EXPORT(difference_keys);
HWY_EXPORT(lower_halves);
HWY_EXPORT(widen);
HWY_EXPORT(take_counts);
HWY_EXPORT(keep_largest);
HWY_EXPORT(draw);
HWY_EXPORT(keep);
HWY_EXPORT(philox);
HWY_EXPORT(add_magnitudes);
HWY_EXPORT(kept_differences);
HWY_EXPORT(add_product);
HWY_EXPORT(divide);
HWY_EXPORT(mix_elected);
HWY_EXPORT(add_to_base);
HWY_EXPORT(weigh);
HWY_EXPORT(compare);
HWY_EXPORT(count_non_finite);

Rounding rounding_of(Accumulate accumulate, tensorfile::DType dtype) noexcept {
  if (accumulate != Accumulate::kNative) return Rounding::kNone;
  if (dtype == tensorfile::DType::kBF16) return Rounding::kBF16;
  return dtype == tensorfile::DType::kF16 ? Rounding::kF16 : Rounding::kNone;
}

void subtract(Rounding rounding, const float* model, const float* base, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(subtract)(rounding, model, base, n, out);
}
void multiply(Rounding rounding, float factor, std::size_t n, float* x) {
  HWY_DYNAMIC_DISPATCH(multiply)(rounding, factor, n, x);
}
void difference_keys(Rounding rounding, const float* model, const float* base, std::size_t n,
                     std::uint32_t* keys) {
  HWY_DYNAMIC_DISPATCH(difference_keys)(rounding, model, base, n, keys);
}
std::size_t lower_halves(const std::uint32_t* keys, std::uint32_t upper, std::size_t n,
                         std::uint16_t* halves) {
  return HWY_DYNAMIC_DISPATCH(lower_halves)(keys, upper, n, halves);
}
void widen(const std::uint32_t* keys, std::size_t n, KeyRange& range) {
  HWY_DYNAMIC_DISPATCH(widen)(keys, n, range);
}
std::size_t take_counts(std::uint32_t* a, std::uint32_t* b, std::size_t n, std::uint16_t* indices,
                        std::uint32_t* sums) {
  return HWY_DYNAMIC_DISPATCH(take_counts)(a, b, n, indices, sums);
}
void keep_largest(Cut kept, const Cut* dropped, std::size_t n, float* x) {
  HWY_DYNAMIC_DISPATCH(keep_largest)(kept, dropped, n, x);
}
std::size_t draw(const std::uint8_t* bytes, std::uint8_t last, std::size_t n, std::uint8_t* bits,
                 std::uint32_t* undecided) {
  return HWY_DYNAMIC_DISPATCH(draw)(bytes, last, n, bits, undecided);
}
void keep(const std::uint8_t* bits, std::size_t n, const float* x, float* out) {
  HWY_DYNAMIC_DISPATCH(keep)(bits, n, x, out);
}
void philox(std::uint64_t key, std::uint64_t model, std::uint64_t first, std::size_t n,
            std::uint32_t* words) {
  HWY_DYNAMIC_DISPATCH(philox)(key, model, first, n, words);
}
void add_magnitudes(Rounding rounding, const float* model, const float* base,
                    const std::uint8_t* bits, std::size_t n, double* all, double* kept) {
  HWY_DYNAMIC_DISPATCH(add_magnitudes)(rounding, model, base, bits, n, all, kept);
}
void kept_differences(Rounding rounding, const float* model, const float* base,
                      const std::uint8_t* bits, float factor, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(kept_differences)(rounding, model, base, bits, factor, n, out);
}
void add_product(Rounding rounding, float w, const float* d, std::size_t n, float* sums) {
  HWY_DYNAMIC_DISPATCH(add_product)(rounding, w, d, n, sums);
}
void divide(Rounding rounding, float divisor, std::size_t n, float* mix) {
  HWY_DYNAMIC_DISPATCH(divide)(rounding, divisor, n, mix);
}
void mix_elected(Rounding rounding, const Election& election, const float* differences,
                 std::size_t stride, std::size_t n, float* mix) {
  HWY_DYNAMIC_DISPATCH(mix_elected)(rounding, election, differences, stride, n, mix);
}
void add_to_base(Rounding rounding, float lambda, const float* base, const float* mix,
                 std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(add_to_base)(rounding, lambda, base, mix, n, out);
}
void weigh(const double* weights, const float* const* x, std::size_t models, double factor,
           std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(weigh)(weights, x, models, factor, n, out);
}
Outcome compare(const float* values, const float* rounded, const float* base, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(compare)(values, rounded, base, n);
}
std::uint32_t count_non_finite(const float* values, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(count_non_finite)(values, n);
}

}  // namespace theriac::merge::methods::loops
#endif  // HWY_ONCE
