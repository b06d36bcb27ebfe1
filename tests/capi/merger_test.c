/* Mergers, inspection and searches over the boundary: on checkpoints made here, without the engine. */
#include <math.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

static theriac_context* context;
static const char* folder;

/* A model folder with one tensor "model.layers.0.w.weight" of `count` floats, [count / 3, 3]. */
static const char* write_model(const char* name, const float* values, unsigned count) {
  char header[256], path[4200];
  const char* model = in_folder(folder, name);
  unsigned long long length;
  FILE* file;
  mkdir(model, 0777);
  snprintf(
      header, sizeof header,
      "{\"model.layers.0.w.weight\":{\"dtype\":\"F32\",\"shape\":[%u,3],\"data_offsets\":[0,%u]}}",
      count / 3, count * 4);
  while (strlen(header) % 8 != 0) strcat(header, " ");
  length = strlen(header);
  snprintf(path, sizeof path, "%s/model.safetensors", model);
  file = fopen(path, "wb");
  CHECK(file != NULL);
  if (file == NULL) return model;
  CHECK(fwrite(&length, 8, 1, file) == 1 && fwrite(header, 1, (size_t)length, file) == length &&
        fwrite(values, 4, count, file) == count);
  CHECK(fclose(file) == 0);
  return model;
}

/* The floats of such a model. */
static int read_model(const char* model, float* values, unsigned count) {
  char path[4200];
  unsigned long long length = 0;
  FILE* file;
  int good;
  snprintf(path, sizeof path, "%s/model.safetensors", model);
  file = fopen(path, "rb");
  if (file == NULL) return 0;
  good = fread(&length, 8, 1, file) == 1 && fseek(file, (long)(8 + length), SEEK_SET) == 0 &&
         fread(values, 4, count, file) == count;
  fclose(file);
  return good;
}

static const float kBase[6] = {1, 1, 1, 1, 1, 1};
static const float kOne[6] = {1.9F, 0.8F, 1, 1.5F, 0.4F, 1.1F};
static const float kTwo[6] = {0.6F, 1.3F, 1, 1.5F, 1.2F, 0.2F};
static const float kThree[6] = {1.1F, 0.3F, 1, 0.5F, 1.3F, 1.4F};

static char base[4200], one[4200], two[4200], three[4200];

static void make_models(void) {
  strcpy(base, write_model("base", kBase, 6));
  strcpy(one, write_model("one", kOne, 6));
  strcpy(two, write_model("two", kTwo, 6));
  strcpy(three, write_model("three", kThree, 6));
}

static theriac_merger* make_ties(void) {
  char options[8192];
  static const char parameters[] = "{\"weight\": 1, \"density\": 0.5}";
  theriac_merger* merger = NULL;
  snprintf(options, sizeof options, "{\"base_model\": \"%s\", \"parameters\": {\"lambda\": 1}}",
           base);
  OK(theriac_merger_create(context, "ties", 4, options, strlen(options), &merger, error));
  OK(theriac_merger_add(merger, one, strlen(one), parameters, strlen(parameters), error));
  OK(theriac_merger_add(merger, two, strlen(two), parameters, strlen(parameters), error));
  OK(theriac_merger_add(merger, three, strlen(three), parameters, strlen(parameters), error));
  return merger;
}

static int near_values(const float* a, const float* b, unsigned count) {
  unsigned i;
  for (i = 0; i < count; i++)
    if (fabsf(a[i] - b[i]) > 1e-5F) return 0;
  return 1;
}

static void merging(void) {
  static const float expected[6] = {1.9F, 0.3F, 1, 1.5F, 0.4F, 0.2F};
  float merged[6];
  char out[4200], again[4200], saved[4200];
  theriac_merger *merger = make_ties(), *loaded = NULL;
  theriac_bytes *bytes = NULL, *before = NULL;
  strcpy(out, in_folder(folder, "merged"));
  strcpy(again, in_folder(folder, "merged-again"));
  strcpy(saved, in_folder(folder, "merger.json"));

  OK(theriac_merger_info(merger, &before, error));
  CHECK(strstr(theriac_bytes_data(before), "\"complete\":true") != NULL);
  CHECK(strstr(theriac_bytes_data(before), "merge_method") != NULL);
  OK(theriac_merger_finish(merger, out, strlen(out), "{\"overwrite\": true}", 19, NULL, &bytes,
                           error));
  CHECK(strstr(theriac_bytes_data(bytes), "\"merge_method\":\"ties\"") != NULL);
  theriac_bytes_release(bytes);
  CHECK(read_model(out, merged, 6) && near_values(merged, expected, 6));
  FAILS(THERIAC_ALREADY_EXISTS, "exists",
        theriac_merger_finish(merger, out, strlen(out), NULL, 0, NULL, &bytes, error));
  CHECK(bytes == NULL);

  unlink(saved);
  OK(theriac_merger_save(merger, saved, strlen(saved), 0, error));
  FAILS(THERIAC_ALREADY_EXISTS, saved, theriac_merger_save(merger, saved, strlen(saved), 0, error));
  OK(theriac_merger_save(merger, saved, strlen(saved), 1, error));
  theriac_merger_release(merger);
  OK(theriac_merger_load(context, saved, strlen(saved), &loaded, error));
  OK(theriac_merger_info(loaded, &bytes, error));
  CHECK(strcmp(theriac_bytes_data(before), theriac_bytes_data(bytes)) == 0);
  theriac_bytes_release(before);
  theriac_bytes_release(bytes);
  OK(theriac_merger_finish(loaded, again, strlen(again), "{\"overwrite\": true}", 19, NULL, &bytes,
                           error));
  theriac_bytes_release(bytes);
  CHECK(read_model(again, merged, 6) && near_values(merged, expected, 6));

  /* Another model under the name of one that was added. */
  sleep(1);
  write_model("two", kThree, 6);
  FAILS(THERIAC_INVALID_STATE, "changed",
        theriac_merger_finish(loaded, again, strlen(again), "{\"overwrite\": true}", 19, NULL,
                              &bytes, error));
  write_model("two", kTwo, 6);
  theriac_merger_release(loaded);
}

static void bad_input(void) {
  theriac_merger *merger = NULL, *other = NULL;
  theriac_bytes* bytes = NULL;
  static const char broken[] = "{\"theriac_merger\": 1, \"method\": 7}";
  char path[4200];
  FILE* file;
#define REFUSES(name, call) FAILS(THERIAC_INVALID_ARGUMENT, name, call)
  OK(theriac_merger_create(context, "linear", 6, NULL, 0, &merger, error));
  REFUSES("context", theriac_merger_create(NULL, "linear", 6, NULL, 0, &other, error));
  REFUSES("method", theriac_merger_create(context, NULL, 6, NULL, 0, &other, error));
  REFUSES("out", theriac_merger_create(context, "linear", 6, NULL, 0, NULL, error));
  REFUSES("did you mean 'linear'",
          theriac_merger_create(context, "linea", 5, NULL, 0, &other, error));
  REFUSES("base_model", theriac_merger_create(context, "ties", 4, NULL, 0, &other, error));
  REFUSES("dtype",
          theriac_merger_create(context, "linear", 6, "{\"dtype\": \"int8\"}", 17, &other, error));
  REFUSES("base_model",
          theriac_merger_create(context, "linear", 6, "{\"base_mode\": \"x\"}", 18, &other, error));
  REFUSES("merger", theriac_merger_add(NULL, one, strlen(one), NULL, 0, error));
  REFUSES("path", theriac_merger_add(merger, NULL, 3, NULL, 0, error));
  REFUSES("path", theriac_merger_add(merger, NULL, 0, NULL, 0, error));
  REFUSES("parameters_json", theriac_merger_add(merger, one, strlen(one), NULL, 2, error));
  REFUSES("weight", theriac_merger_add(merger, one, strlen(one), "{\"weigth\": 1}", 13, error));
  FAILS(THERIAC_NOT_FOUND, "nowhere", theriac_merger_add(merger, "nowhere", 7, NULL, 0, error));
  REFUSES("merger", theriac_merger_info(NULL, &bytes, error));
  REFUSES("out", theriac_merger_info(merger, NULL, error));
  REFUSES("merger", theriac_merger_finish(NULL, "x", 1, NULL, 0, NULL, &bytes, error));
  REFUSES("path", theriac_merger_finish(merger, NULL, 1, NULL, 0, NULL, &bytes, error));
  REFUSES("out", theriac_merger_finish(merger, "x", 1, NULL, 0, NULL, NULL, error));
  REFUSES("no meaning",
          theriac_merger_finish(merger, "x", 1, "{\"output\": \"y\"}", 15, NULL, &bytes, error));
  FAILS(THERIAC_INVALID_STATE, "nothing was added",
        theriac_merger_finish(merger, "x", 1, NULL, 0, NULL, &bytes, error));
  REFUSES("merger", theriac_merger_save(NULL, "x", 1, 0, error));
  REFUSES("path", theriac_merger_save(merger, NULL, 0, 0, error));
  REFUSES("context", theriac_merger_load(NULL, "x", 1, &other, error));
  REFUSES("path", theriac_merger_load(context, NULL, 1, &other, error));
  REFUSES("out", theriac_merger_load(context, "x", 1, NULL, error));
  FAILS(THERIAC_NOT_FOUND, "nowhere", theriac_merger_load(context, "nowhere", 7, &other, error));
  strcpy(path, in_folder(folder, "broken.json"));
  file = fopen(path, "wb");
  CHECK(file != NULL && fwrite(broken, 1, sizeof broken - 1, file) == sizeof broken - 1);
  if (file != NULL) fclose(file);
  FAILS(THERIAC_DATA_ERROR, "method",
        theriac_merger_load(context, path, strlen(path), &other, error));
  REFUSES("merger", theriac_merger_info((const theriac_merger*)context, &bytes, error));
  CHECK(other == NULL && bytes == NULL);
  CHECK(theriac_merger_create(NULL, NULL, 0, NULL, 0, NULL, NULL) == THERIAC_INVALID_ARGUMENT);
  theriac_merger_release(NULL);
  theriac_merger_release(merger);
#undef REFUSES
}

static void inspection(void) {
  char options[24000], page[4200];
  theriac_bytes* bytes = NULL;
  struct stat status;
  strcpy(page, in_folder(folder, "page.html"));
  unlink(page);
  snprintf(options, sizeof options,
           "{\"base\": \"%s\", \"models\": [\"%s\", \"%s\", \"%s\"], \"page\": \"%s\"}", base, one,
           two, three, page);
  OK(theriac_merge_inspect(context, options, strlen(options), NULL, &bytes, error));
  CHECK(strstr(theriac_bytes_data(bytes), "-0.28093") != NULL);
  theriac_bytes_release(bytes);
  bytes = NULL;
  CHECK(stat(page, &status) == 0 && status.st_size > 4000);
  FAILS(THERIAC_INVALID_ARGUMENT, "context",
        theriac_merge_inspect(NULL, "{}", 2, NULL, &bytes, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "out",
        theriac_merge_inspect(context, "{}", 2, NULL, NULL, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "models",
        theriac_merge_inspect(context, "{}", 2, NULL, &bytes, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "density",
        theriac_merge_inspect(context, "{\"density\": 2}", 14, NULL, &bytes, error));
  CHECK(bytes == NULL);
}

/* How far a model is from a wanted one; answers `answer` at call `stop_at`. */
struct judge {
  int calls, stop_at;
  int32_t answer;
};
static int32_t distance(const char* model, double* score, void* user) {
  struct judge* judge = user;
  float values[6];
  if (++judge->calls == judge->stop_at) return judge->answer;
  if (!read_model(model, values, 6)) return -7;
  *score = fabs(values[0] - 1.45) + fabs(values[5] - 0.85);
  return 0;
}

static void searches(void) {
  static const char recipe_form[] =
      "merge_method: task_arithmetic\nbase_model: %s\nmodels:\n"
      "- {model: %s, parameters: {weight: 0.1}}\n- {model: %s, parameters: {weight: 0.1}}\n";
  static const char mistaken[] = "{\"output\": \"x\", \"merge\": {\"shard_byte\": 1}}";
  char recipe[16000], options[20000], out[4200];
  struct judge judge = {0, 0, 0};
  theriac_evaluator evaluator = {sizeof(theriac_evaluator), distance, NULL};
  theriac_bytes* bytes = NULL;
  float merged[6];
  int used;
  evaluator.user = &judge;
  strcpy(out, in_folder(folder, "searched"));
  snprintf(recipe, sizeof recipe, recipe_form, base, one, two);
  snprintf(
      options, sizeof options,
      "{\"output\": \"%s\", \"leaves\": [\"models[*].parameters.weight=0:1\"], \"minimize\": true, "
      "\"evaluations\": 60, \"overwrite\": true, \"resume\": true}",
      out);
#define SEARCH(evaluator)                                                                          \
  theriac_merge_search(context, recipe, strlen(recipe), options, strlen(options), evaluator, NULL, \
                       &bytes, error)
  judge.stop_at = 5;
  judge.answer = -7;
  FAILS(THERIAC_CALLBACK_FAILED, "best recipe so far", SEARCH(&evaluator));
  judge.stop_at = 8;
  judge.answer = 1;
  FAILS(THERIAC_CANCELLED, "cancelled", SEARCH(&evaluator));
  CHECK(bytes == NULL && judge.calls == 8);
  judge.stop_at = 0;
  OK(SEARCH(&evaluator));
  used = judge.calls;
  CHECK(used == 62); /* two of them were stopped and repeated */
  CHECK(strstr(theriac_bytes_data(bytes), "\"evaluations_resumed\":6") != NULL);
  theriac_bytes_release(bytes);
  bytes = NULL;
  CHECK(read_model(out, merged, 6) && fabs(merged[0] - 1.45) + fabs(merged[5] - 0.85) < 0.2);
  evaluator.struct_size = 4;
  FAILS(THERIAC_INVALID_ARGUMENT, "evaluator", SEARCH(&evaluator));
  FAILS(THERIAC_INVALID_ARGUMENT, "evaluator", SEARCH(NULL));
  evaluator.struct_size = sizeof evaluator;
#undef SEARCH
  FAILS(THERIAC_INVALID_ARGUMENT, "output",
        theriac_merge_search(context, recipe, strlen(recipe), NULL, 0, &evaluator, NULL, &bytes,
                             error));
  FAILS(THERIAC_INVALID_ARGUMENT, "merge.shard_byte",
        theriac_merge_soup(context, mistaken, strlen(mistaken), &evaluator, NULL, &bytes, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "context",
        theriac_merge_soup(NULL, NULL, 0, &evaluator, NULL, &bytes, error));

  /* one and two together are nearer to what is wanted than either; three is not. */
  strcpy(out, in_folder(folder, "soup"));
  snprintf(
      options, sizeof options,
      "{\"output\": \"%s\", \"models\": [\"%s\", \"%s\"], \"minimize\": true, \"overwrite\": true}",
      out, one, two);
  OK(theriac_merge_soup(context, options, strlen(options), &evaluator, NULL, &bytes, error));
  theriac_bytes_release(bytes);
  CHECK(read_model(out, merged, 6));
}

/* An exclusive call meets another one. */
static void* adds(void* argument) {
  int i, busy = 0;
  for (i = 0; i < 60; i++) {
    if (theriac_merger_add(argument, one, strlen(one), NULL, 0, NULL) == THERIAC_BUSY) busy++;
  }
  return busy > 0 ? argument : NULL;
}
static void threads(void) {
  pthread_t thread;
  theriac_merger* merger = NULL;
  theriac_bytes* bytes = NULL;
  int i;
  OK(theriac_merger_create(context, "linear", 6, NULL, 0, &merger, error));
  CHECK(pthread_create(&thread, NULL, adds, merger) == 0);
  for (i = 0; i < 60; i++) {
    theriac_status status = theriac_merger_info(merger, &bytes, NULL);
    if (status != THERIAC_OK && status != THERIAC_BUSY) CHECK(0);
    theriac_bytes_release(bytes);
  }
  CHECK(pthread_join(thread, NULL) == 0);
  theriac_merger_release(merger);
}

static void schemas(void) {
  static const char* const kinds[] = {"merge", "merge.inspect", "merge.search", "merge.soup",
                                      "merger"};
  theriac_bytes* bytes = NULL;
  size_t i;
  for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    OK(theriac_schema(kinds[i], strlen(kinds[i]), &bytes, error));
    CHECK(strstr(theriac_bytes_data(bytes), "\"properties\"") != NULL);
    theriac_bytes_release(bytes);
  }
}

int main(int argc, char** argv) {
  folder = files_folder(argc, argv);
  OK(theriac_context_create("{\"seed\": 3, \"threads\": 2}", 25, &context, error));
  make_models();
  merging();
  bad_input();
  inspection();
  searches();
  threads();
  schemas();
  theriac_context_release(context);
  return finish();
}
