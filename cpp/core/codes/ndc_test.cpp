#include "cpp/core/codes/ndc.h"

#include <gtest/gtest.h>

namespace theriac::codes {
namespace {

struct NdcCase {
  const char* raw;
  NdcStatus status;
  const char* digits;
};

class NdcForms : public ::testing::TestWithParam<NdcCase> {};

TEST_P(NdcForms, AreTold) {
  const auto& [raw, status, digits] = GetParam();
  const Ndc ndc = normalise_ndc(raw);
  EXPECT_EQ(ndc.status, status) << raw;
  EXPECT_EQ(ndc.digits, digits) << raw;
}

INSTANTIATE_TEST_SUITE_P(Hyphens, NdcForms,
                         ::testing::Values(NdcCase{"1234-5678-90", NdcStatus::kOk, "01234567890"},
                                           NdcCase{"12345-678-90", NdcStatus::kOk, "12345067890"},
                                           NdcCase{"12345-6789-0", NdcStatus::kOk, "12345678900"},
                                           NdcCase{"12345-6789-01", NdcStatus::kOk, "12345678901"},
                                           NdcCase{" 12345-6789-01\n", NdcStatus::kOk,
                                                   "12345678901"}));
INSTANTIATE_TEST_SUITE_P(Plain, NdcForms,
                         ::testing::Values(NdcCase{"00002322930", NdcStatus::kOk, "00002322930"},
                                           NdcCase{"0002322930", NdcStatus::kAmbiguous, ""},
                                           NdcCase{"", NdcStatus::kNone, ""},
                                           NdcCase{"  ", NdcStatus::kNone, ""},
                                           NdcCase{"0", NdcStatus::kNone, ""},
                                           NdcCase{"0000000000", NdcStatus::kNone, ""},
                                           NdcCase{"00000000000", NdcStatus::kNone, ""}));
INSTANTIATE_TEST_SUITE_P(Malformed, NdcForms,
                         ::testing::Values(NdcCase{"1234-567-90", NdcStatus::kMalformed,
                                                   ""},  // two short segments
                                           NdcCase{"1234-5678-9", NdcStatus::kMalformed, ""},
                                           NdcCase{"123456-789-01", NdcStatus::kMalformed, ""},
                                           NdcCase{"12345-6789", NdcStatus::kMalformed, ""},
                                           NdcCase{"12345-6789-01-2", NdcStatus::kMalformed, ""},
                                           NdcCase{"12345-67B9-01", NdcStatus::kMalformed, ""},
                                           NdcCase{"--", NdcStatus::kMalformed, ""},
                                           NdcCase{"123456789", NdcStatus::kMalformed, ""},
                                           NdcCase{"123456789012", NdcStatus::kMalformed, ""},
                                           NdcCase{"1234567890A", NdcStatus::kMalformed, ""}));

}  // namespace
}  // namespace theriac::codes
