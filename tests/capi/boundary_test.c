/* The boundary's promises, one by one: handshake, arguments, errors, cancel, callbacks, lifetimes,
 * fork, options. */
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "harness.h"
#include "theriac/interchange.h"

static theriac_context* context;
static theriac_dataset* dataset;
static theriac_model* model;
static theriac_session* session;
static const char* folder;

static void handshake(void) {
  CHECK(theriac_abi_version() == THERIAC_ABI_VERSION);
  CHECK(strlen(theriac_version()) > 0);
  OK(theriac_init(THERIAC_ABI_VERSION, error));
  FAILS(THERIAC_INCOMPATIBLE, "ABI 2.0", theriac_init(THERIAC_ABI_VERSION + 0x10000U, error));
  FAILS(THERIAC_INCOMPATIBLE, "ABI", theriac_init(THERIAC_ABI_VERSION + 1U, error));
  CHECK(theriac_init(0, NULL) == THERIAC_INCOMPATIBLE);
}

/* Every pointer argument NULL, one at a time. */
static void null_arguments(void) {
  theriac_bytes* bytes = NULL;
  theriac_cancel* cancel = NULL;
  theriac_context* made = NULL;
  theriac_dataset* parts[3] = {NULL, NULL, NULL};
  theriac_model* other = NULL;
  theriac_result* result = NULL;
  theriac_session* scoring = NULL;
  struct ArrowArrayStream stream;
  struct DLManagedTensorVersioned* tensor = NULL;
  int32_t numbers[1] = {0};
  const char* code[1] = {"I10"};
  const char* classes[1];
  float probabilities[1];
  uint64_t count = 0;
  memset(&stream, 0, sizeof stream);

#define REFUSES(name, call) FAILS(THERIAC_INVALID_ARGUMENT, name, call)
  REFUSES("out", theriac_build_info(NULL, error));
  REFUSES("out", theriac_schema(NULL, 0, NULL, error));
  REFUSES("kind", theriac_schema(NULL, 3, &bytes, error));
  REFUSES("out", theriac_cancel_create(NULL, error));
  REFUSES("out", theriac_context_create(NULL, 0, NULL, error));
  REFUSES("options_json", theriac_context_create(NULL, 2, &made, error));
  REFUSES("context", theriac_context_info(NULL, &bytes, error));
  REFUSES("out", theriac_context_info(context, NULL, error));
  REFUSES("context", theriac_codes_query(NULL, "{}", 2, &bytes, error));
  REFUSES("out", theriac_codes_query(context, "{}", 2, NULL, error));
  REFUSES("context", theriac_dataset_open(NULL, "{}", 2, NULL, parts, error));
  REFUSES("out", theriac_dataset_open(context, "{}", 2, NULL, NULL, error));
  REFUSES("path", theriac_dataset_open(context, "{}", 2, NULL, parts, error));
  REFUSES("stream", theriac_dataset_from_arrow(context, NULL, NULL, 0, parts, error));
  REFUSES("context", theriac_dataset_generate(NULL, "{}", 2, NULL, error));
  REFUSES("dataset", theriac_dataset_split(NULL, NULL, 0, &parts[0], &parts[1], &parts[2], error));
  REFUSES("train", theriac_dataset_split(dataset, NULL, 0, NULL, &parts[1], &parts[2], error));
  REFUSES("valid", theriac_dataset_split(dataset, NULL, 0, &parts[0], NULL, &parts[2], error));
  REFUSES("test", theriac_dataset_split(dataset, NULL, 0, &parts[0], &parts[1], NULL, error));
  REFUSES("dataset", theriac_dataset_info(NULL, &bytes, error));
  REFUSES("out", theriac_dataset_info(dataset, NULL, error));
  REFUSES("dataset", theriac_dataset_table(NULL, "codes", 5, &stream, error));
  REFUSES("stream", theriac_dataset_table(dataset, "codes", 5, NULL, error));
  REFUSES("table", theriac_dataset_table(dataset, NULL, 5, &stream, error));
  REFUSES("dataset", theriac_dataset_export(NULL, NULL, 0, &bytes, error));
  REFUSES("out", theriac_dataset_export(dataset, NULL, 0, NULL, error));
  REFUSES("dataset", theriac_dataset_save(NULL, "x", 1, 0, error));
  REFUSES("path", theriac_dataset_save(dataset, NULL, 1, 0, error));
  REFUSES("path", theriac_dataset_save(dataset, NULL, 0, 0, error));
  REFUSES("context", theriac_model_create(NULL, "gamenet", 7, NULL, 0, &other, error));
  REFUSES("method", theriac_model_create(context, NULL, 7, NULL, 0, &other, error));
  REFUSES("out", theriac_model_create(context, "gamenet", 7, NULL, 0, NULL, error));
  REFUSES("model", theriac_model_fit(NULL, dataset, NULL, NULL, 0, NULL, error));
  REFUSES("context", theriac_model_load(NULL, "x", 1, NULL, 0, &other, error));
  REFUSES("path", theriac_model_load(context, NULL, 1, NULL, 0, &other, error));
  REFUSES("out", theriac_model_load(context, "x", 1, NULL, 0, NULL, error));
  REFUSES("model", theriac_model_save(NULL, "x", 1, 0, error));
  REFUSES("path", theriac_model_save(model, NULL, 1, 0, error));
  REFUSES("model", theriac_model_evaluate(NULL, dataset, NULL, 0, NULL, &result, error));
  REFUSES("dataset", theriac_model_evaluate(model, NULL, NULL, 0, NULL, &result, error));
  REFUSES("out", theriac_model_evaluate(model, dataset, NULL, 0, NULL, NULL, error));
  REFUSES("model", theriac_model_info(NULL, &bytes, error));
  REFUSES("out", theriac_model_info(model, NULL, error));
  REFUSES("model", theriac_model_tensor(NULL, "x", 1, &tensor, error));
  REFUSES("name", theriac_model_tensor(model, NULL, 1, &tensor, error));
  REFUSES("out", theriac_model_tensor(model, "x", 1, NULL, error));
  REFUSES("model", theriac_session_create(NULL, NULL, 0, &scoring, error));
  REFUSES("out", theriac_session_create(model, NULL, 0, NULL, error));
  REFUSES("session", theriac_session_recommend(NULL, "{}", 2, &bytes, error));
  REFUSES("request_json", theriac_session_recommend(session, NULL, 2, &bytes, error));
  REFUSES("out", theriac_session_recommend(session, "{}", 2, NULL, error));
  REFUSES("session", theriac_session_explain(NULL, "{}", 2, &bytes, error));
  REFUSES("out", theriac_session_explain(session, "{}", 2, NULL, error));
  REFUSES("session", theriac_session_recommend_codes(NULL, 1, numbers, numbers, numbers, code, 1,
                                                     classes, probabilities, &count, NULL, error));
  REFUSES("visit", theriac_session_recommend_codes(session, 1, NULL, numbers, numbers, code, 1,
                                                   classes, probabilities, &count, NULL, error));
  REFUSES("field", theriac_session_recommend_codes(session, 1, numbers, NULL, numbers, code, 1,
                                                   classes, probabilities, &count, NULL, error));
  REFUSES("system", theriac_session_recommend_codes(session, 1, numbers, numbers, NULL, code, 1,
                                                    classes, probabilities, &count, NULL, error));
  REFUSES("code", theriac_session_recommend_codes(session, 1, numbers, numbers, numbers, NULL, 1,
                                                  classes, probabilities, &count, NULL, error));
  REFUSES("class_code",
          theriac_session_recommend_codes(session, 1, numbers, numbers, numbers, code, 1, NULL,
                                          probabilities, &count, NULL, error));
  REFUSES("probability",
          theriac_session_recommend_codes(session, 1, numbers, numbers, numbers, code, 1, classes,
                                          NULL, &count, NULL, error));
  REFUSES("count", theriac_session_recommend_codes(session, 1, numbers, numbers, numbers, code, 1,
                                                   classes, probabilities, NULL, NULL, error));
  REFUSES("session", theriac_session_set_augmenter(NULL, NULL, error));
  REFUSES("stream", theriac_session_recommend_arrow(session, NULL, NULL, 0, NULL, &stream, error));
  REFUSES("result", theriac_result_table(NULL, &stream, error));
  CHECK(theriac_model_create(NULL, NULL, 0, NULL, 0, NULL, NULL) == THERIAC_INVALID_ARGUMENT);
  CHECK(bytes == NULL && made == NULL && other == NULL && result == NULL && scoring == NULL &&
        cancel == NULL && tensor == NULL);
#undef REFUSES
}

struct steps {
  int calls, stop_at;
  int32_t answer;
};
static int32_t count_steps(const char* phase, uint64_t done, uint64_t total, const char* metrics,
                           void* user) {
  struct steps* steps = user;
  (void)phase, (void)done, (void)total, (void)metrics;
  return ++steps->calls >= steps->stop_at ? steps->answer : 0;
}

static void cancel_and_callbacks(void) {
  static const char options[] =
      "{\"encoder\": {\"dim\": 8}, \"train\": {\"epochs\": 5}, \"tree\": {\"epochs\": 1}}";
  struct steps steps = {0, 2, 1};
  theriac_callbacks callbacks = {sizeof(theriac_callbacks), count_steps, NULL, NULL};
  theriac_model* fitting = NULL;
  theriac_cancel* cancel = NULL;
  callbacks.user = &steps;
  OK(theriac_model_create(context, "gamenet", 7, options, strlen(options), &fitting, error));
  FAILS(THERIAC_CANCELLED, "",
        theriac_model_fit(fitting, dataset, NULL, NULL, 0, &callbacks, error));
  CHECK(steps.calls == 2);
  steps.calls = 0, steps.answer = -7;
  FAILS(THERIAC_CALLBACK_FAILED, "",
        theriac_model_fit(fitting, dataset, NULL, NULL, 0, &callbacks, error));

  OK(theriac_cancel_create(&cancel, error));
  CHECK(theriac_cancel_requested(cancel) == 0);
  theriac_cancel_request(cancel);
  CHECK(theriac_cancel_requested(cancel) == 1);
  callbacks.progress = NULL, callbacks.cancel = cancel;
  FAILS(THERIAC_CANCELLED, "",
        theriac_model_fit(fitting, dataset, NULL, NULL, 0, &callbacks, error));
  /* A struct of an older, shorter layout: the token is beyond it and must not be read. */
  callbacks.struct_size = offsetof(theriac_callbacks, cancel);
  OK(theriac_model_fit(fitting, dataset, NULL, NULL, 0, &callbacks,
                       error)); /* reusable after all that */
  theriac_cancel_release(cancel);
  theriac_model_release(fitting);
}

static void options_and_errors(void) {
  theriac_model* other = NULL;
  theriac_context* made = NULL;
  theriac_bytes* bytes = NULL;
  theriac_error* error = NULL;
  static const char bad[] = "{\"encoder\": {\"dmi\": 8}}";
  FAILS(THERIAC_INVALID_ARGUMENT, "'encoder.dim'",
        theriac_model_create(context, "gamenet", 7, bad, strlen(bad), &other, error));
  FAILS(THERIAC_NOT_FOUND, "gamenet",
        theriac_model_create(context, "gamnet", 6, NULL, 0, &other, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "device",
        theriac_context_create("{\"device\": \"tpu\"}", 17, &made, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "threads",
        theriac_context_create("{\"threads\": -1}", 15, &made, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "'seed'",
        theriac_context_create("{\"sead\": 1}", 11, &made, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "line 1", theriac_context_create("{\"seed\": ", 9, &made, error));
  FAILS(THERIAC_NOT_FOUND, "",
        theriac_model_load(context, "/nonexistent/model", 18, NULL, 0, &other, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "patient.visits[0].diagnoses[0]",
        theriac_session_recommend(
            session, "{\"patient\":{\"visits\":[{\"diagnoses\":[{\"system\":\"icd10cm\"}]}]}}", 61,
            &bytes, error));
  CHECK(theriac_context_create("{\"sead\": 1}", 11, &made, &error) == THERIAC_INVALID_ARGUMENT);
  CHECK(strstr(theriac_error_details(error), "\"name\":\"INVALID_ARGUMENT\"") != NULL);
  CHECK(strstr(theriac_error_details(error), "\"function\":\"theriac_context_create\"") != NULL);
  theriac_error_release(error);
  CHECK(strcmp(theriac_error_message(NULL), "") == 0 && theriac_error_code(NULL) == THERIAC_OK);
  /* An ignored namespace. */
  OK(theriac_context_create("{\"x-note\": 1}", 13, &made, error));
  theriac_context_release(made);
}

static void* release_all(void* unused) {
  (void)unused;
  theriac_context_release(context);
  theriac_dataset_release(dataset);
  theriac_model_release(model);
  theriac_session_release(session);
  return NULL;
}

static void null_releases(void) {
  theriac_context_release(NULL);
  theriac_dataset_release(NULL);
  theriac_model_release(NULL);
  theriac_session_release(NULL);
  theriac_result_release(NULL);
  theriac_bytes_release(NULL);
  theriac_cancel_release(NULL);
  theriac_error_release(NULL);
  CHECK(theriac_context_retain(NULL) == NULL && theriac_model_retain(NULL) == NULL &&
        theriac_dataset_retain(NULL) == NULL);
}

static void recommendation(void) {
  theriac_bytes *answer = NULL, *again = NULL;
  theriac_session* survivor = NULL;
  OK(theriac_session_recommend(session, kRequest, strlen(kRequest), &answer, error));
  CHECK(strstr(theriac_bytes_data(answer), "\"classes\":[{\"code\":") != NULL);
  CHECK(strstr(theriac_bytes_data(answer), "\"limits\":") != NULL);
  CHECK(theriac_bytes_size(answer) == strlen(theriac_bytes_data(answer)));
  OK(theriac_session_explain(session, kRequest, strlen(kRequest), &again, error));
  CHECK(strstr(theriac_bytes_data(again), "\"explanation\":") != NULL);
  theriac_bytes_release(again);
  /* A session outlives its model's and context's handles. */
  OK(theriac_session_create(model, NULL, 0, &survivor, error));
  OK(theriac_session_recommend(survivor, kRequest, strlen(kRequest), &again, error));
  CHECK(strcmp(theriac_bytes_data(answer), theriac_bytes_data(again)) == 0);
  theriac_session_release(survivor);
  theriac_bytes_release(answer);
  theriac_bytes_release(again);
}

static void save_and_load(void) {
  const char* path = in_folder(folder, "model");
  theriac_model* loaded = NULL;
  theriac_session* scoring = NULL;
  theriac_bytes *before = NULL, *after = NULL;
  theriac_result* result = NULL;
  OK(theriac_model_save(model, path, strlen(path), 1, error));
  FAILS(THERIAC_ALREADY_EXISTS, "", theriac_model_save(model, path, strlen(path), 0, error));
  OK(theriac_model_load(context, path, strlen(path), NULL, 0, &loaded, error));
  OK(theriac_session_create(loaded, NULL, 0, &scoring, error));
  OK(theriac_session_recommend(session, kRequest, strlen(kRequest), &before, error));
  OK(theriac_session_recommend(scoring, kRequest, strlen(kRequest), &after, error));
  CHECK(strcmp(theriac_bytes_data(before), theriac_bytes_data(after)) == 0);
  OK(theriac_model_evaluate(loaded, dataset, NULL, 0, NULL, &result, error));
  CHECK(strstr(theriac_result_json(result), "\"prauc\"") != NULL);
  theriac_result_release(result);
  theriac_bytes_release(before);
  theriac_bytes_release(after);
  theriac_session_release(scoring);
  theriac_model_release(loaded);
}

/* Zero copy out: the same memory, alive after the model is gone, freed once by the consumer. */
static void tensors(void) {
  struct DLManagedTensorVersioned *first = NULL, *second = NULL;
  theriac_bytes* info = NULL;
  static const char name[] = "query.weight";
  OK(theriac_model_tensor(model, name, strlen(name), &first, error));
  OK(theriac_model_tensor(model, name, strlen(name), &second, error));
  if (first != NULL && second != NULL) {
    CHECK(first->version.major == 1 && (first->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0);
    CHECK(first->dl_tensor.ndim == 2 && first->dl_tensor.strides != NULL &&
          first->dl_tensor.byte_offset == 0);
    CHECK(first->dl_tensor.dtype.code == 2 && first->dl_tensor.dtype.bits == 32);
    CHECK(first->dl_tensor.data == second->dl_tensor.data);
    first->deleter(first);
    second->deleter(second);
  }
  FAILS(THERIAC_NOT_FOUND, "query.weight",
        theriac_model_tensor(model, "query.weigth", 12, &first, error));
  OK(theriac_model_info(model, &info, error));
  CHECK(strstr(theriac_bytes_data(info), "\"method\":\"gamenet\"") != NULL);
  theriac_bytes_release(info);
}

static void fork_child(void) {
  int status = 0;
  pid_t child = fork();
  if (child == 0) {
    struct timespec begin, end;
    theriac_bytes* bytes = NULL;
    theriac_status got;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    got = theriac_session_recommend(session, kRequest, strlen(kRequest), &bytes, NULL);
    clock_gettime(CLOCK_MONOTONIC, &end);
    _exit(got == THERIAC_FORKED && end.tv_sec - begin.tv_sec < 2 ? 0 : 1);
  }
  CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
        WEXITSTATUS(status) == 0);
}

static void arrow_round_trip(void) {
  struct ArrowArrayStream stream;
  theriac_dataset* copy = NULL;
  theriac_bytes *before = NULL, *after = NULL;
  OK(theriac_dataset_table(dataset, "codes", 5, &stream, error));
  OK(theriac_dataset_from_arrow(context, &stream, NULL, 0, &copy, error));
  OK(theriac_dataset_export(dataset, "{\"table\": \"codes\", \"format\": \"csv\"}", 35, &before,
                            error));
  OK(theriac_dataset_export(copy, "{\"table\": \"codes\", \"format\": \"csv\"}", 35, &after,
                            error));
  CHECK(strcmp(theriac_bytes_data(before), theriac_bytes_data(after)) == 0);
  theriac_bytes_release(before);
  theriac_bytes_release(after);
  theriac_dataset_release(copy);
  FAILS(THERIAC_INVALID_ARGUMENT, "codes",
        theriac_dataset_table(dataset, "code", 4, &stream, error));
  /* Batch scoring: in as codes, out as classes. */
  {
    struct ArrowArrayStream out;
    struct ArrowSchema schema;
    struct ArrowArray batch;
    OK(theriac_dataset_table(dataset, "codes", 5, &stream, error));
    OK(theriac_session_recommend_arrow(session, &stream, "{\"k\": 3}", 8, NULL, &out, error));
    CHECK(out.get_schema(&out, &schema) == 0 && schema.n_children == 5 &&
          strcmp(schema.children[3]->name, "probability") == 0);
    schema.release(&schema);
    CHECK(out.get_next(&out, &batch) == 0 && batch.release != NULL && batch.length % 3 == 0 &&
          batch.length > 0);
    if (batch.release != NULL) batch.release(&batch);
    out.release(&out);
  }
}

int main(int argc, char** argv) {
  pthread_t thread;
  folder = files_folder(argc, argv);
  handshake();
  null_releases();
  OK(theriac_context_create("{\"seed\": 3, \"threads\": 2}", 25, &context, error));
  dataset = make_cohort(context, folder, 40);
  model = make_model(context, dataset);
  OK(theriac_session_create(model, NULL, 0, &session, error));
  null_arguments();
  options_and_errors();
  recommendation();
  save_and_load();
  tensors();
  arrow_round_trip();
  cancel_and_callbacks();
  fork_child();
  /* Parents first, from another thread. */
  CHECK(pthread_create(&thread, NULL, release_all, NULL) == 0 && pthread_join(thread, NULL) == 0);
  return finish();
}
