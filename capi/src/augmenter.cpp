// Augmenters: copies of a history, for hosts and for sessions.
#include <algorithm>
#include <limits>
#include <utility>

#include "capi/src/handles.h"
#include "capi/src/schemas.h"

namespace theriac::capi {
namespace {

constexpr std::uint64_t kLongestHistory = 100'000'000;
constexpr std::uint64_t kWidestTable = 10'000;

std::shared_ptr<const augment::SimilarityTable> table_of(std::int32_t items,
                                                         const std::int32_t* similar,
                                                         std::uint64_t width) {
  if (width == 0) return nullptr;
  need_out(similar, "similar");
  if (items < 1 || width > kWidestTable) {
    throw Error(Code::kInvalidArgument,
                "a table of similar items needs items of at least 1 and at most " +
                    std::to_string(kWidestTable) + " neighbours of each")
        .at("argument", items < 1 ? "items" : "similar_width");
  }
  const auto count = static_cast<std::size_t>(items) * static_cast<std::size_t>(width);
  return std::make_shared<const augment::SimilarityTable>(
      items, static_cast<std::size_t>(width), std::vector<std::int32_t>(similar, similar + count));
}

[[noreturn]] void refuse_model_work() {
  throw Error(Code::kUnsupported,
              "this augmenter asks for more than other ids (op tnoise, mask_as zero or block, "
              "shift); set it on a session of a model that can carry it out")
      .at("argument", "augmenter");
}

}  // namespace

Json augmenter_schema() { return augment::AugmenterOptions::table().schema(); }

}  // namespace theriac::capi

using namespace theriac;        // NOLINT(google-build-using-namespace): this file is the C boundary
using namespace theriac::capi;  // NOLINT(google-build-using-namespace)

theriac_status theriac_augmenter_create(const theriac_context* context, const char* options_json,
                                        size_t options_length, int32_t items,
                                        const int32_t* similar, uint64_t similar_width,
                                        theriac_augmenter** out, theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_augmenter_create", error, [&] {
    const theriac_context& home = need(context, "context");
    theriac_augmenter*& target = need_out(out, "out");
    if (items < 0) {
      throw Error(Code::kInvalidArgument, "items is below 0; 0 where it is not known")
          .at("argument", "items");
    }
    augment::AugmenterOptions settings;
    settings.seed = static_cast<std::int64_t>(home.settings.seed);
    augment::AugmenterOptions::table().update(
        settings, options(options_json, options_length, "options_json"));
    target = new theriac_augmenter(
        augment::Augmenter(std::move(settings), items, table_of(items, similar, similar_width)));
  });
}

theriac_status theriac_augmenter_apply(const theriac_augmenter* augmenter, const int32_t* history,
                                       uint64_t length, const uint64_t* key, uint64_t copy_capacity,
                                       uint64_t* offset, double* weight, uint64_t id_capacity,
                                       int32_t* id, uint64_t* copies, uint64_t* ids,
                                       theriac_error** error) noexcept {
  if (copies != nullptr) *copies = 0;
  if (ids != nullptr) *ids = 0;
  return guard("theriac_augmenter_apply", error, [&] {
    const theriac_augmenter& self = need(augmenter, "augmenter");
    need_out(copies, "copies");
    need_out(ids, "ids");
    if (length != 0) need_out(history, "history");
    if (copy_capacity != 0) {
      need_out(offset, "offset");
      need_out(weight, "weight");
    }
    if (id_capacity != 0) need_out(id, "id");
    if (length > kLongestHistory) {
      throw Error(Code::kInvalidArgument, "a history of " + std::to_string(length) +
                                              " items; at most " + std::to_string(kLongestHistory))
          .at("argument", "length");
    }
    if (self.shared->marks_items() || self.shared->shifts()) refuse_model_work();
    const augment::Copies made =
        self.shared->apply({history, static_cast<std::size_t>(length)},
                           key == nullptr ? std::nullopt : std::optional<std::uint64_t>(*key));
    *copies = made.size();
    *ids = made.ids.size();
    if (made.size() > copy_capacity || made.ids.size() > id_capacity) {
      throw Error(Code::kInvalidArgument, "room for " + std::to_string(copy_capacity) +
                                              " copies and " + std::to_string(id_capacity) +
                                              " ids; " + std::to_string(made.size()) + " and " +
                                              std::to_string(made.ids.size()) + " are needed")
          .at("argument", made.size() > copy_capacity ? "copy_capacity" : "id_capacity");
    }
    std::copy(made.offsets.begin(), made.offsets.end(), offset);
    std::copy(made.weights.begin(), made.weights.end(), weight);
    std::copy(made.ids.begin(), made.ids.end(), id);
  });
}

theriac_status theriac_augmenter_info(const theriac_augmenter* augmenter, theriac_bytes** out,
                                      theriac_error** error) noexcept {
  if (out != nullptr) *out = nullptr;
  return guard("theriac_augmenter_info", error, [&] {
    const theriac_augmenter& self = need(augmenter, "augmenter");
    theriac_bytes*& target = need_out(out, "out");
    target = make_bytes(
        dump_json(augment::AugmenterOptions::table().effective_json(self.shared->options())));
  });
}

theriac_augmenter* theriac_augmenter_retain(theriac_augmenter* augmenter) noexcept {
  return retain(augmenter);
}
void theriac_augmenter_release(theriac_augmenter* augmenter) noexcept { release(augmenter); }
