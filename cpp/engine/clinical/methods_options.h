// Option structs of the methods of this family, and the tables they share.
#pragma once

#include <string>

#include "cpp/engine/clinical/interaction_loss.h"
#include "cpp/engine/clinical/medication_recommender.h"

namespace theriac::clinical {

struct GamenetOptions : BackboneOptions {
  std::string form = "corrected";      // corrected | original
  std::string ehr_graph = "training";  // training | all: whose visits make the co-occurrence graph
  double dropout = 0;                  // original form: on code vectors
  double graph_dropout = 0.5;
  LossOptions loss;
  static const OptionTable<GamenetOptions>& table();
  // With the defaults of the form that `json` asks for.
  static GamenetOptions parse(const Json& json);
};

struct RetainOptions : BackboneOptions {
  double dropout = 0.5;  // on visit vectors
  static const OptionTable<RetainOptions>& table();
  static RetainOptions parse(const Json& json);
};

struct FrequencyOptions : MedicationOptions {
  static const OptionTable<FrequencyOptions>& table();
};

struct LogisticOptions : MedicationOptions {
  double c = 1;
  std::int64_t iterations = 100;
  double tolerance = 1e-6;
  static const OptionTable<LogisticOptions>& table();
};

}  // namespace theriac::clinical
