/* Models of sequences over the boundary: fit, save, import, evaluate, tune, recommend, augment. */
#include <math.h>
#include <pthread.h>

#include "harness.h"
#include "theriac/interchange.h"

enum { kListed = 10 };

static theriac_context* context;
static theriac_dataset *train, *valid, *test, *cohort;
static theriac_model* model;
static theriac_session* session;
static const char* folder;

static const int64_t kHistory[5] = {3, 7, 12, 5, 9};
static const char kRequestText[] = "{\"history\": [3, 7, 12, 5, 9], \"k\": 10}";

struct answer {
  int64_t item[kListed];
  float score[kListed];
  uint64_t ranked, ignored;
};

static theriac_status fill(theriac_session* scoring, const uint64_t* key, struct answer* answer,
                           theriac_error** error) {
  memset(answer, 0, sizeof *answer);
  return theriac_session_recommend_history(scoring, kHistory, 5, key, kListed, answer->item,
                                           answer->score, &answer->ranked, &answer->ignored, error);
}

static struct answer ask(theriac_session* scoring, const uint64_t* key) {
  struct answer answer;
  OK(fill(scoring, key, &answer, error));
  return answer;
}

static int same(const struct answer* a, const struct answer* b) {
  return memcmp(a, b, sizeof *a) == 0;
}

static theriac_session* session_of(const theriac_model* of) {
  theriac_session* made = NULL;
  OK(theriac_session_create(of, NULL, 0, &made, error));
  return made;
}

static theriac_augmenter* augmenter_of(const char* options) {
  theriac_augmenter* made = NULL;
  OK(theriac_augmenter_create(context, options, strlen(options), 0, NULL, 0, &made, error));
  return made;
}

/* A report's number, by the key in front of it. */
static double reported(const char* json, const char* key) {
  const char* found = strstr(json, key);
  CHECK(found != NULL);
  return found == NULL ? -1 : strtod(found + strlen(key), NULL);
}

static void recommendation(void) {
  const struct answer answer = ask(session, NULL);
  theriac_bytes* document = NULL;
  int i, j;
  CHECK(answer.ranked == kListed && answer.ignored == 0);
  for (i = 0; i < kListed; i++) {
    CHECK(i == 0 || answer.score[i] <= answer.score[i - 1]);
    for (j = 0; j < 5; j++) CHECK(answer.item[i] != kHistory[j]);
  }
  OK(theriac_session_recommend(session, kRequestText, strlen(kRequestText), &document, error));
  CHECK(reported(theriac_bytes_data(document), "{\"id\":") == (double)answer.item[0]);
  CHECK(fabs(reported(theriac_bytes_data(document), "\"score\":") - (double)answer.score[0]) <
        1e-5);
  CHECK(strstr(theriac_bytes_data(document), "\"inputs\":{\"used\":5,\"ignored\":[]}") != NULL);
  CHECK(strstr(theriac_bytes_data(document), "\"method\":\"sasrec\"") != NULL);
  theriac_bytes_release(document);
}

/* Items that the model never saw are left out and named. */
static void unknown_items(void) {
  static const int64_t some[3] = {3, 999, -4}, none[2] = {998, 999};
  static const char mixed[] = "{\"history\": [3, \"shoe\", 999], \"k\": 2}";
  struct answer answer;
  theriac_bytes* document = NULL;
  OK(theriac_session_recommend_history(session, some, 3, NULL, kListed, answer.item, answer.score,
                                       &answer.ranked, &answer.ignored, error));
  CHECK(answer.ranked == kListed && answer.ignored == 2);
  OK(theriac_session_recommend(session, mixed, strlen(mixed), &document, error));
  CHECK(strstr(theriac_bytes_data(document), "\"ignored\":[\"shoe\",999]") != NULL);
  theriac_bytes_release(document);
  FAILS(THERIAC_INVALID_ARGUMENT, "knows none",
        theriac_session_recommend_history(session, none, 2, NULL, kListed, answer.item,
                                          answer.score, &answer.ranked, &answer.ignored, error));
  CHECK(answer.ranked == 0 && answer.ignored == 0);
  FAILS(THERIAC_INVALID_ARGUMENT, "knows none",
        theriac_session_recommend(session, "{\"history\": [999]}", 18, &document, error));
  CHECK(document == NULL);
}

static void bad_requests(void) {
  struct answer answer;
  theriac_bytes* document = NULL;
#define HISTORY(handle, item, count, capacity, ranked_item, score, ranked)                   \
  theriac_session_recommend_history(handle, item, count, NULL, capacity, ranked_item, score, \
                                    ranked, NULL, error)
  FAILS(THERIAC_INVALID_ARGUMENT, "session",
        HISTORY(NULL, kHistory, 5, 1, answer.item, answer.score, &answer.ranked));
  FAILS(THERIAC_INVALID_ARGUMENT, "item",
        HISTORY(session, NULL, 5, 1, answer.item, answer.score, &answer.ranked));
  FAILS(THERIAC_INVALID_ARGUMENT, "ranked_item",
        HISTORY(session, kHistory, 5, 1, NULL, answer.score, &answer.ranked));
  FAILS(THERIAC_INVALID_ARGUMENT, "score",
        HISTORY(session, kHistory, 5, 1, answer.item, NULL, &answer.ranked));
  FAILS(THERIAC_INVALID_ARGUMENT, "ranked",
        HISTORY(session, kHistory, 5, 1, answer.item, answer.score, NULL));
  FAILS(THERIAC_INVALID_ARGUMENT, "empty",
        HISTORY(session, NULL, 0, 1, answer.item, answer.score, &answer.ranked));
  OK(HISTORY(session, kHistory, 5, 0, NULL, NULL, &answer.ranked));
  CHECK(answer.ranked == 0);
#undef HISTORY
  FAILS(THERIAC_INVALID_ARGUMENT, "empty",
        theriac_session_recommend(session, "{\"history\": []}", 15, &document, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "history",
        theriac_session_recommend(session, "{\"histroy\": [3]}", 16, &document, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "/history/1",
        theriac_session_recommend(session, "{\"history\": [3, {}]}", 20, &document, error));
  FAILS(THERIAC_UNSUPPORTED, "theriac_session_recommend",
        theriac_session_explain(session, kRequestText, strlen(kRequestText), &document, error));
}

static void augmentation(void) {
  const uint64_t first_key = 1, second_key = 2;
  const struct answer plain = ask(session, NULL);
  struct answer augmented, again, other;
  theriac_bytes *before = NULL, *after = NULL;
  theriac_augmenter* augmenter = augmenter_of("{\"op\": \"tmask_r\", \"copies\": 4}");
  OK(theriac_session_recommend(session, kRequestText, strlen(kRequestText), &before, error));
  OK(theriac_session_set_augmenter(session, augmenter, error));
  theriac_augmenter_release(augmenter); /* the session keeps it */
  augmented = ask(session, &first_key);
  CHECK(augmented.ranked == kListed && !same(&augmented, &plain));
  again = ask(session, &first_key);
  CHECK(same(&augmented, &again));
  other = ask(session, &second_key);
  CHECK(!same(&augmented, &other));
  OK(theriac_session_recommend(session, kRequestText, strlen(kRequestText), &after, error));
  CHECK(strcmp(theriac_bytes_data(before), theriac_bytes_data(after)) != 0);
  theriac_bytes_release(after);

  /* Refused: as before. */
  FAILS(THERIAC_INVALID_ARGUMENT, "augmenter",
        theriac_session_set_augmenter(session, (const theriac_augmenter*)context, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "session", theriac_session_set_augmenter(NULL, NULL, error));
  again = ask(session, &first_key);
  CHECK(same(&augmented, &again));

  OK(theriac_session_set_augmenter(session, NULL, error));
  again = ask(session, &first_key);
  CHECK(same(&plain, &again));
  OK(theriac_session_recommend(session, kRequestText, strlen(kRequestText), &after, error));
  CHECK(strcmp(theriac_bytes_data(before), theriac_bytes_data(after)) == 0);
  theriac_bytes_release(before);
  theriac_bytes_release(after);
}

/* Copies that are more than ids go to sessions, not out as ids; similar items may be the model's. */
static void model_augmenters(void) {
  static const int32_t history[3] = {1, 2, 3};
  const struct answer plain = ask(session, NULL);
  struct answer augmented;
  uint64_t copies = 0, ids = 0;
  theriac_augmenter* noisy = augmenter_of("{\"op\": \"tnoise\"}");
  theriac_augmenter* substituting =
      augmenter_of("{\"op\": \"substitute\", \"similar\": \"item_cf_iuf\"}");
  FAILS(THERIAC_UNSUPPORTED, "session",
        theriac_augmenter_apply(noisy, history, 3, NULL, 0, NULL, NULL, 0, NULL, &copies, &ids,
                                error));
  OK(theriac_session_set_augmenter(session, noisy, error));
  augmented = ask(session, NULL);
  CHECK(augmented.ranked == kListed && !same(&plain, &augmented));
  OK(theriac_session_set_augmenter(session, substituting, error));
  augmented = ask(session, NULL);
  CHECK(augmented.ranked == kListed && !same(&plain, &augmented));
  OK(theriac_session_set_augmenter(session, NULL, error));
  theriac_augmenter_release(noisy);
  theriac_augmenter_release(substituting);
}

static void evaluation(void) {
  static const char augmented[] = "{\"cutoffs\": [5, 20], \"augment\": {\"op\": \"tmask_r\"}}",
                    grid[] = "{\"tune\": [{\"ratio\": 0.2}, {\"ratio\": 0.5}]}",
                    both[] = "{\"tune\": true, \"augment\": {}}";
  theriac_result *plain = NULL, *result = NULL;
  struct ArrowArrayStream stream;
  OK(theriac_model_evaluate(model, test, NULL, 0, NULL, &plain, error));
  CHECK(reported(theriac_result_json(plain), "\"hr@10\":") > 0);
  OK(theriac_result_table(plain, &stream, error));
  stream.release(&stream);
  OK(theriac_model_evaluate(model, test, augmented, strlen(augmented), NULL, &result, error));
  CHECK(strstr(theriac_result_json(result), "\"hr@20\"") != NULL);
  CHECK(strstr(theriac_result_json(result), "\"hr@10\"") == NULL);
  CHECK(strstr(theriac_result_json(result), "\"augment\":{\"op\":\"tmask_r\"") != NULL);
  theriac_result_release(result);
  OK(theriac_model_evaluate(model, valid, grid, strlen(grid), NULL, &result, error));
  CHECK(strstr(theriac_result_json(result), "\"grid\":[{\"augment\":null,") != NULL);
  CHECK(strstr(theriac_result_json(result), "\"best\":{") != NULL);
  theriac_result_release(result);
  FAILS(THERIAC_INVALID_ARGUMENT, "tune",
        theriac_model_evaluate(model, valid, both, strlen(both), NULL, &result, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "cutoffs",
        theriac_model_evaluate(model, valid, "{\"cutofs\": [5]}", 15, NULL, &result, error));
  theriac_result_release(plain);
}

static int same_answers(const theriac_model* other) {
  theriac_session* scoring = session_of(other);
  const struct answer mine = ask(session, NULL), theirs = ask(scoring, NULL);
  theriac_session_release(scoring);
  return same(&mine, &theirs);
}

/* Saved, loaded, and imported from its own file of weights: the same model. */
static void save_load_import(void) {
  const char* path = in_folder(folder, "sasrec");
  const char* weights = in_folder(folder, "sasrec/model.safetensors");
  theriac_model* other = NULL;
  OK(theriac_model_save(model, path, strlen(path), 1, error));
  OK(theriac_model_load(context, path, strlen(path), NULL, 0, &other, error));
  CHECK(same_answers(other));
  theriac_model_release(other);

#define IMPORT(context, method, path, data, options, out)                                  \
  theriac_model_import(context, method, strlen(method), path, strlen(path), data, options, \
                       strlen(options), out, error)
  OK(IMPORT(context, "sasrec", weights, train, kSmallSasrec, &other));
  CHECK(same_answers(other));
  theriac_model_release(other);
  FAILS(THERIAC_INVALID_ARGUMENT, "context",
        IMPORT(NULL, "sasrec", weights, train, kSmallSasrec, &other));
  FAILS(THERIAC_INVALID_ARGUMENT, "path",
        theriac_model_import(context, "sasrec", 6, NULL, 5, train, NULL, 0, &other, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "dataset",
        IMPORT(context, "sasrec", weights, NULL, kSmallSasrec, &other));
  FAILS(THERIAC_INVALID_ARGUMENT, "out",
        IMPORT(context, "sasrec", weights, train, kSmallSasrec, NULL));
  FAILS(THERIAC_INVALID_ARGUMENT, "sequences",
        IMPORT(context, "sasrec", weights, cohort, kSmallSasrec, &other));
  FAILS(THERIAC_DATA_ERROR, "", IMPORT(context, "sasrec", weights, train, "{}", &other));
  FAILS(THERIAC_NOT_FOUND, "nowhere",
        IMPORT(context, "sasrec", "/nowhere/model.safetensors", train, kSmallSasrec, &other));
  FAILS(THERIAC_UNSUPPORTED, "gamenet", IMPORT(context, "gamenet", weights, train, "{}", &other));
  FAILS(THERIAC_NOT_FOUND, "sasrec", IMPORT(context, "sasrek", weights, train, "{}", &other));
#undef IMPORT
  CHECK(other == NULL);
}

static void baselines(void) {
  static const char* const methods[] = {"popularity", "item_knn"};
  size_t i;
  for (i = 0; i < 2; i++) {
    theriac_model* other = NULL;
    theriac_session* scoring;
    theriac_result* result = NULL;
    struct answer answer;
    OK(theriac_model_create(context, methods[i], strlen(methods[i]), NULL, 0, &other, error));
    OK(theriac_model_fit(other, train, NULL, NULL, 0, NULL, error));
    OK(theriac_model_evaluate(other, test, NULL, 0, NULL, &result, error));
    CHECK(reported(theriac_result_json(result), "\"hr@20\":") > 0);
    scoring = session_of(other);
    answer = ask(scoring, NULL);
    CHECK(answer.ranked == kListed);
    theriac_result_release(result);
    theriac_session_release(scoring);
    theriac_model_release(other);
  }
}

/* Copies of a patient's past leave codes out; operators on ordered items are refused. */
static void patients_are_augmented_too(theriac_session* scoring) {
  theriac_augmenter *removing = augmenter_of("{\"op\": \"tmask_r\"}"),
                    *noisy = augmenter_of("{\"op\": \"tnoise\"}");
  theriac_bytes *plain = NULL, *augmented = NULL, *again = NULL;
  OK(theriac_session_recommend(scoring, kRequest, strlen(kRequest), &plain, error));
  OK(theriac_session_set_augmenter(scoring, removing, error));
  FAILS(THERIAC_UNSUPPORTED, "op", theriac_session_set_augmenter(scoring, noisy, error));
  OK(theriac_session_recommend(scoring, kRequest, strlen(kRequest), &augmented, error));
  CHECK(strstr(theriac_bytes_data(augmented), "\"augment\":{\"op\":\"tmask_r\"") != NULL);
  OK(theriac_session_set_augmenter(scoring, NULL, error));
  OK(theriac_session_recommend(scoring, kRequest, strlen(kRequest), &again, error));
  CHECK(strcmp(theriac_bytes_data(plain), theriac_bytes_data(again)) == 0);
  theriac_bytes_release(plain);
  theriac_bytes_release(augmented);
  theriac_bytes_release(again);
  theriac_augmenter_release(removing);
  theriac_augmenter_release(noisy);
}

/* Value i of a column of a batch without nulls. */
static int64_t int64_at(const struct ArrowArray* batch, int column, int64_t i) {
  return ((const int64_t*)batch->children[column]->buffers[1])[i];
}
static int32_t int32_at(const struct ArrowArray* batch, int column, int64_t i) {
  return ((const int32_t*)batch->children[column]->buffers[1])[i];
}

/* A table of interactions in, ranked items of every user out: those that each user alone is given. */
static void a_batch(void) {
  static const char* const names[5] = {"user", "rank", "item", "score", "ignored"};
  static const char formats[5] = {'l', 'i', 'l', 'f', 'i'};
  struct ArrowArrayStream stream, out;
  struct ArrowSchema schema;
  struct ArrowArray batch;
  theriac_dataset* few = NULL;
  const char text[] = "user,item\n8,3\n4,999\n8,7\n8,12\n8,5\n8,9\n8,998\n5,7\n";
  char path[1024], open_options[1200];
  const struct answer alone = ask(session, NULL);
  int i;
  FILE* file;
  snprintf(path, sizeof path, "%s/few.csv", folder);
  file = fopen(path, "wb");
  CHECK(file != NULL);
  fwrite(text, 1, strlen(text), file);
  fclose(file);
  snprintf(open_options, sizeof open_options, "{\"format\": \"sequences\", \"path\": \"%s\"}",
           path);
  OK(theriac_dataset_open(context, open_options, strlen(open_options), NULL, &few, error));
  OK(theriac_dataset_table(few, "interactions", 12, &stream, error));
  OK(theriac_session_recommend_arrow(session, &stream, "{\"k\": 10}", 9, NULL, &out, error));
  CHECK(stream.release == NULL);
  CHECK(out.get_schema(&out, &schema) == 0 && schema.n_children == 5);
  for (i = 0; i < 5; i++) {
    CHECK(strcmp(schema.children[i]->name, names[i]) == 0);
    CHECK(schema.children[i]->format[0] == formats[i]);
  }
  schema.release(&schema);
  /* User 4 has no known item, and no row. */
  CHECK(out.get_next(&out, &batch) == 0 && batch.length == 2 * kListed);
  for (i = 0; i < kListed; i++) {
    CHECK(int64_at(&batch, 0, i) == 8 && int32_at(&batch, 1, i) == i + 1);
    CHECK(int64_at(&batch, 2, i) == alone.item[i]);
    CHECK(((const float*)batch.children[3]->buffers[1])[i] == alone.score[i]);
    CHECK(int32_at(&batch, 4, i) == 1);
    CHECK(int64_at(&batch, 0, kListed + i) == 5 && int32_at(&batch, 4, kListed + i) == 0);
  }
  batch.release(&batch);
  CHECK(out.get_next(&out, &batch) == 0 && batch.release == NULL);
  out.release(&out);
  theriac_dataset_release(few);
}

/* Models of one kind refuse the other's data and calls. */
static void other_kind(void) {
  static const int32_t zero[1] = {0};
  static const char* const code[1] = {"I10"};
  const char* classes[1];
  float probability[1];
  struct answer answer;
  struct ArrowArrayStream stream, out;
  theriac_model* medication = make_model(context, cohort);
  theriac_session* scoring = session_of(medication);
  theriac_result* result = NULL;
  theriac_bytes* document = NULL;
  FAILS(THERIAC_INVALID_ARGUMENT, "kind cohort",
        theriac_model_fit(medication, train, NULL, NULL, 0, NULL, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "kind cohort",
        theriac_model_evaluate(medication, test, NULL, 0, NULL, &result, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "kind sequences",
        theriac_model_fit(model, cohort, NULL, NULL, 0, NULL, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "kind sequences",
        theriac_model_evaluate(model, cohort, NULL, 0, NULL, &result, error));
  FAILS(THERIAC_UNSUPPORTED, "histories",
        theriac_session_recommend_history(scoring, kHistory, 5, NULL, kListed, answer.item,
                                          answer.score, &answer.ranked, &answer.ignored, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "history",
        theriac_session_recommend(scoring, kRequestText, strlen(kRequestText), &document, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "history",
        theriac_session_recommend(session, kRequest, strlen(kRequest), &document, error));
  FAILS(THERIAC_UNSUPPORTED, "coded",
        theriac_session_recommend_codes(session, 1, zero, zero, zero, code, 1, classes, probability,
                                        &answer.ranked, NULL, error));
  OK(theriac_dataset_table(cohort, "codes", 5, &stream, error));
  FAILS(THERIAC_DATA_ERROR, "user",
        theriac_session_recommend_arrow(session, &stream, NULL, 0, NULL, &out, error));
  CHECK(stream.release == NULL && out.release == NULL);
  patients_are_augmented_too(scoring);
  theriac_session_release(scoring);
  theriac_model_release(medication);
}

static struct answer expected;

/* The harness counts on one thread: the others only tell whether all was well. */
static void* asks(void* unused) {
  theriac_session* scoring = NULL;
  int i, good = theriac_session_create(model, NULL, 0, &scoring, NULL) == THERIAC_OK;
  (void)unused;
  for (i = 0; good && i < 100; i++) {
    struct answer answer;
    good = fill(scoring, NULL, &answer, NULL) == THERIAC_OK && same(&answer, &expected);
  }
  theriac_session_release(scoring);
  return good ? NULL : (void*)&expected;
}

static void threads(void) {
  pthread_t thread[4];
  int i;
  expected = ask(session, NULL);
  for (i = 0; i < 4; i++) CHECK(pthread_create(&thread[i], NULL, asks, NULL) == 0);
  for (i = 0; i < 4; i++) {
    void* differs = &expected;
    CHECK(pthread_join(thread[i], &differs) == 0);
    CHECK(differs == NULL);
  }
}

int main(int argc, char** argv) {
  theriac_dataset* dataset;
  folder = files_folder(argc, argv);
  OK(theriac_context_create("{\"seed\": 3, \"threads\": 2}", 25, &context, error));
  dataset = make_sequences(context, folder, 200);
  OK(theriac_dataset_split(dataset, NULL, 0, &train, &valid, &test, error));
  theriac_dataset_release(dataset);
  cohort = make_cohort(context, folder, 30);
  model = make_sequence_model(context, train, valid);
  session = session_of(model);
  recommendation();
  unknown_items();
  bad_requests();
  augmentation();
  model_augmenters();
  evaluation();
  save_load_import();
  baselines();
  a_batch();
  other_kind();
  threads();
  /* Parents first. */
  theriac_context_release(context);
  theriac_dataset_release(train);
  theriac_dataset_release(valid);
  theriac_dataset_release(test);
  theriac_dataset_release(cohort);
  theriac_model_release(model);
  theriac_session_release(session);
  return finish();
}
