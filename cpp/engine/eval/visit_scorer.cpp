#include "cpp/engine/eval/visit_scorer.h"

#include <algorithm>
#include <vector>

#include "cpp/engine/eval/parallel.h"

namespace theriac::eval {
namespace {

struct Block {
  std::int64_t first = 0, last = 0;  // patients
  std::vector<float> probabilities;  // [visits, classes]
};

std::int64_t visits_of(const data::Cohort& cohort, std::int64_t first, std::int64_t last) {
  return first == last ? 0 : cohort.last_visit(last - 1) - cohort.first_visit(first);
}

// The next patients with about `visits` visits together, at least one patient.
Block next_block(const data::Cohort& cohort, std::int64_t first, std::int64_t visits) {
  Block block{first, first, {}};
  while (block.last < cohort.patients() && visits_of(cohort, first, block.last) < visits)
    ++block.last;
  return block;
}

void score_blocks(const data::Cohort& cohort, const VisitScorer& scorer, int threads,
                  std::vector<Block>& blocks) {
  parallel_for(blocks.size(), threads, [&](std::size_t i) {
    Block& block = blocks[i];
    const std::int64_t visits = visits_of(cohort, block.first, block.last);
    block.probabilities.resize(static_cast<std::size_t>(visits * scorer.classes()));
    scorer.score(block.first, block.last, block.probabilities);
  });
}

void hand_over(const data::Cohort& cohort, std::int64_t classes, const Block& block,
               const PatientSink& sink) {
  const std::span<const float> rows(block.probabilities);
  std::size_t begin = 0;
  for (std::int64_t p = block.first; p < block.last; ++p) {
    const auto size = static_cast<std::size_t>(visits_of(cohort, p, p + 1) * classes);
    sink(p, rows.subspan(begin, size));
    begin += size;
  }
}

}  // namespace

void score_cohort(const data::Cohort& cohort, const VisitScorer& scorer, int threads, Job& job,
                  const PatientSink& sink) {
  threads = std::max(1, threads);
  const std::size_t blocks_a_wave = static_cast<std::size_t>(threads) * 4;
  std::int64_t patient = 0;
  while (patient < cohort.patients()) {
    std::vector<Block> wave;
    while (patient < cohort.patients() && wave.size() < blocks_a_wave) {
      wave.push_back(next_block(cohort, patient, scorer.preferred_visits()));
      patient = wave.back().last;
    }
    score_blocks(cohort, scorer, threads, wave);
    for (const Block& block : wave) hand_over(cohort, scorer.classes(), block, sink);
    job.progress("evaluate", static_cast<std::uint64_t>(patient),
                 static_cast<std::uint64_t>(cohort.patients()));
  }
}

}  // namespace theriac::eval
