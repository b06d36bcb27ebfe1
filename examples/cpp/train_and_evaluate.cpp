// From records to an evaluated model in C++: generate, read, split, fit, evaluate, save.
//
//     ./train_and_evaluate FOLDER
#include <cstdio>
#include <filesystem>
#include <string>

#include "theriac/theriac.hpp"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: train_and_evaluate FOLDER\n");
    return 2;
  }
  const std::string folder = argv[1];
  try {
    const theriac::Context context(R"({"seed": 7})");
    context.generate(R"({"kind": "cohort", "format": "mimic-iv", "patients": 300, "path": ")" +
                     folder + R"(/records"})");
    const theriac::Dataset cohort =
        theriac::Dataset::open(context, R"({"format": "mimic-iv", "path": ")" + folder +
                                            R"(/records/hosp", "maps": {"ndc_atc": ")" + folder +
                                            R"(/records/ndc_atc.csv"}})");
    const theriac::Dataset::Parts parts = cohort.split();

    theriac::Model model = theriac::Model::create(
        context, "gamenet", R"({"encoder": {"dim": 32}, "train": {"epochs": 5}})");
    model.fit(
        &parts.train, &parts.valid, {},
        [](std::string_view phase, std::uint64_t done, std::uint64_t total, std::string_view) {
          if (done == total)
            std::printf("%.*s: done\n", static_cast<int>(phase.size()), phase.data());
          return true;
        });
    std::printf("%s\n", model.evaluate(parts.test).c_str());
    model.save(folder + "/model", true);
    return std::filesystem::exists(folder + "/model/config.json") ? 0 : 1;
  } catch (const theriac::Exception& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
