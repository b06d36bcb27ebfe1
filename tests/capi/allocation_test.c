/* Memory: the hot calls allocate nothing after warm-up, and any one allocation of a call that
 * handles no JSON may fail: it reports OUT_OF_MEMORY, nothing leaks, the handles go on working.
 * Calls with JSON are not tested: the destructor of nlohmann-json 3.11 allocates and ends the
 * process when it can not (docs/decisions/0003). */
#include <errno.h>

#include "harness.h"
#include "theriac/interchange.h"

extern void* __libc_malloc(size_t size);

static _Thread_local long fail_at = -1;    /* counts down; the allocation at 0 fails */
static _Thread_local long allocations = 0; /* of this thread */

__attribute__((visibility("default"))) void* malloc(size_t size) {
  ++allocations;
  if (fail_at >= 0 && fail_at-- == 0) return NULL;
  return __libc_malloc(size);
}

static theriac_context* context;
static theriac_dataset* dataset;
static theriac_model* model;
static theriac_session* session;
static int out_of_memory_in_stream = 0;

static theriac_status recommend_codes(theriac_error** error) {
  static const int32_t visit[] = {0, 0, 1}, field[] = {0, 2, 0},
                       system[] = {THERIAC_ICD10CM, THERIAC_ATC, THERIAC_ICD10CM};
  static const char* const code[] = {"E11.9", "A10BA02", "I50.21"};
  const char* class_code[8];
  float probability[8];
  uint64_t count = 0;
  return theriac_session_recommend_codes(session, 3, visit, field, system, code, 8, class_code,
                                         probability, &count, NULL, error);
}

static theriac_status recommend_history(theriac_session* of_items, theriac_error** error) {
  static const int64_t item[] = {3, 7, 12, 5, 9};
  int64_t ranked_item[8];
  float score[8];
  uint64_t ranked = 0;
  return theriac_session_recommend_history(of_items, item, 5, NULL, 8, ranked_item, score, &ranked,
                                           NULL, error);
}

static void recommends_history_without_allocating(const char* folder) {
  theriac_dataset* sequences = make_sequences(context, folder, 50);
  theriac_model* of_items = make_sequence_model(context, sequences, NULL);
  theriac_session* scoring = NULL;
  long before;
  int i;
  OK(theriac_session_create(of_items, NULL, 0, &scoring, error));
  OK(recommend_history(scoring, error));
  before = allocations;
  for (i = 0; i < 1000; i++) {
    if (recommend_history(scoring, NULL) != THERIAC_OK) failed++;
  }
  CHECK(allocations == before);
  theriac_session_release(scoring);
  theriac_model_release(of_items);
  theriac_dataset_release(sequences);
}

static theriac_status create_cancel(theriac_error** error) {
  theriac_cancel* made = NULL;
  theriac_status status = theriac_cancel_create(&made, error);
  theriac_cancel_release(made);
  return status;
}

/* A stream, its schema and its first batch; the stream reports ENOMEM where the ABI reports a
 * status. */
static theriac_status read_table(theriac_error** error) {
  struct ArrowArrayStream stream;
  struct ArrowSchema schema;
  struct ArrowArray batch;
  theriac_status status = theriac_dataset_table(dataset, "codes", 5, &stream, error);
  int failure;
  if (status != THERIAC_OK) return status;
  failure = stream.get_schema(&stream, &schema);
  if (failure == 0) {
    schema.release(&schema);
    failure = stream.get_next(&stream, &batch);
    if (failure == 0 && batch.release != NULL) batch.release(&batch);
  }
  stream.release(&stream);
  if (failure == ENOMEM) out_of_memory_in_stream++;
  return failure == 0 || failure == ENOMEM ? THERIAC_OK : THERIAC_INTERNAL;
}

/* Fails allocation n = 0, 1, ... until the call gets through, 500 at most. */
static void every_allocation_fails(const char* name, theriac_status (*call)(theriac_error**)) {
  int64_t before;
  int failures = 0;
  long n;
  theriac_error* warm = NULL;
  (void)call(&warm); /* what is made once a process */
  theriac_error_release(warm);
  before = theriac_live_objects();
  for (n = 0; n < 500; n++) {
    theriac_error* error = NULL;
    theriac_status status;
    fail_at = n;
    status = call(&error);
    if (fail_at >= 0) n = 500; /* it needed fewer: the call was whole */
    fail_at = -1;
    if (status == THERIAC_OUT_OF_MEMORY && theriac_error_code(error) == THERIAC_OUT_OF_MEMORY)
      failures++;
    else if (status != THERIAC_OK) {
      fprintf(stderr, "%s: allocation %ld failed: status %d, %s\n", name, n, (int)status,
              theriac_error_message(error));
      failed++;
    }
    theriac_error_release(error);
  }
  CHECK(failures > 0);
  CHECK(theriac_live_objects() == before);
}

int main(int argc, char** argv) {
  const char* folder = files_folder(argc, argv);
  long before;
  int i;
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

  recommends_history_without_allocating(folder);

  every_allocation_fails("cancel_create", create_cancel);
  every_allocation_fails("dataset_table", read_table);
  CHECK(out_of_memory_in_stream > 0);
  OK(recommend_codes(error)); /* as good as before */

  theriac_session_release(session);
  theriac_model_release(model);
  theriac_dataset_release(dataset);
  theriac_context_release(context);
  return finish();
}
