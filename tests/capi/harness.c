#include "harness.h"

#include <sys/stat.h>

int passed = 0, failed = 0;

const char kRequest[] =
    "{\"patient\": {\"visits\": [{\"date\": \"2020-01-02\", \"diagnoses\": [{\"system\": "
    "\"icd10cm\", \"code\": \"E11.9\"},"
    "{\"system\": \"icd10cm\", \"code\": \"I10\"}], \"medications\": [{\"system\": \"atc\", "
    "\"code\": \"A10BA02\"}]},"
    "{\"date\": \"2021-01-02\", \"diagnoses\": [{\"system\": \"icd10cm\", \"code\": "
    "\"I50.21\"}]}]}, \"k\": 5}";

const char* files_folder(int argc, char** argv) {
  const char* folder = argc > 1 ? argv[1] : "capi-test-files";
  mkdir(folder, 0777);
  return folder;
}

const char* in_folder(const char* folder, const char* name) {
  static char buffers[4][4096];
  static int next = 0;
  char* buffer = buffers[next++ % 4];
  snprintf(buffer, sizeof buffers[0], "%s/%s", folder, name);
  return buffer;
}

theriac_dataset* make_cohort(const theriac_context* context, const char* folder, int patients) {
  char options[8192];
  theriac_dataset* dataset = NULL;
  snprintf(options, sizeof options,
           "{\"kind\": \"cohort\", \"format\": \"fhir\", \"patients\": %d, \"seed\": 5, \"path\": "
           "\"%s/fhir-%d\"}",
           patients, folder, patients);
  OK(theriac_dataset_generate(context, options, strlen(options), NULL, error));
  snprintf(options, sizeof options, "{\"format\": \"fhir\", \"path\": \"%s/fhir-%d\"}", folder,
           patients);
  OK(theriac_dataset_open(context, options, strlen(options), NULL, &dataset, error));
  return dataset;
}

theriac_model* make_model(const theriac_context* context, const theriac_dataset* dataset) {
  static const char options[] =
      "{\"encoder\": {\"dim\": 16}, \"train\": {\"epochs\": 2}, \"tree\": {\"epochs\": 2}}";
  theriac_model* model = NULL;
  OK(theriac_model_create(context, "gamenet", 7, options, strlen(options), &model, error));
  OK(theriac_model_fit(model, dataset, dataset, NULL, 0, NULL, error));
  return model;
}

const char kSmallSasrec[] =
    "{\"hidden\": 16, \"inner\": 32, \"layers\": 1, \"max_length\": 20, \"train\": {\"epochs\": "
    "2}}";

theriac_dataset* make_sequences(const theriac_context* context, const char* folder, int users) {
  char options[8192];
  theriac_dataset* dataset = NULL;
  snprintf(options, sizeof options,
           "{\"kind\": \"sequences\", \"users\": %d, \"items\": 60, \"clusters\": 6, \"seed\": 5, "
           "\"path\": \"%s/sequences-%d.txt\"}",
           users, folder, users);
  OK(theriac_dataset_generate(context, options, strlen(options), NULL, error));
  snprintf(options, sizeof options,
           "{\"format\": \"sequences\", \"path\": \"%s/sequences-%d.txt\"}", folder, users);
  OK(theriac_dataset_open(context, options, strlen(options), NULL, &dataset, error));
  return dataset;
}

theriac_model* make_sequence_model(const theriac_context* context, const theriac_dataset* train,
                                   const theriac_dataset* valid) {
  theriac_model* model = NULL;
  OK(theriac_model_create(context, "sasrec", 6, kSmallSasrec, strlen(kSmallSasrec), &model, error));
  OK(theriac_model_fit(model, train, valid, NULL, 0, NULL, error));
  return model;
}

int finish(void) {
  CHECK(theriac_live_objects() == 0);
  printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
