/* Memory: the hot call allocates nothing after warm-up. */

#include "harness.h"

extern void *__libc_malloc(size_t size);

static _Thread_local long allocations = 0; /* of this thread */

__attribute__((visibility("default"))) void *malloc(size_t size) {
  ++allocations;
  return __libc_malloc(size);
}

static theriac_context *context;
static theriac_dataset *dataset;
static theriac_model *model;
static theriac_session *session;
static const char *folder;

static theriac_status recommend_codes(theriac_error **error) {
  static const int32_t visit[] = {0, 0, 1}, field[] = {0, 2, 0}, system[] = {THERIAC_ICD10CM, THERIAC_ATC, THERIAC_ICD10CM};
  static const char *const code[] = {"E11.9", "A10BA02", "I50.21"};
  const char *class_code[8];
  float probability[8];
  uint64_t count = 0;
  return theriac_session_recommend_codes(session, 3, visit, field, system, code, 8, class_code, probability, &count, NULL, error);
}

int main(int argc, char **argv) {
  long before;
  int i;
  folder = files_folder(argc, argv);
  OK(theriac_context_create("{\"seed\": 3}", 11, &context, error));
  dataset = make_cohort(context, folder, 30);
  model = make_model(context, dataset);
  OK(theriac_session_create(model, NULL, 0, &session, error));

  CHECK(allocations > 0); /* the replacement is in place */
  OK(recommend_codes(error));
  before = allocations;
  for (i = 0; i < 1000; i++) {
    if (recommend_codes(NULL) != THERIAC_OK) failed++;
  }
  CHECK(allocations == before);

  theriac_session_release(session);
  theriac_model_release(model);
  theriac_dataset_release(dataset);
  theriac_context_release(context);
  return finish();
}
