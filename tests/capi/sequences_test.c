/* Data sets of sequences over the boundary, without the engine. */
#include "harness.h"
#include "theriac/interchange.h"

static theriac_context* context;
static const char* folder;

static const char kLines[] = "{\"table\": \"sequences\", \"format\": \"lines\"}";
static const char kRows[] = "{\"table\": \"interactions\", \"format\": \"csv\"}";

/* The caller releases it. */
static theriac_bytes* exported(const theriac_dataset* dataset, const char* options) {
  theriac_bytes* bytes = NULL;
  OK(theriac_dataset_export(dataset, options, strlen(options), &bytes, error));
  return bytes;
}

static int same_rows(const theriac_dataset* a, const theriac_dataset* b) {
  theriac_bytes *first = exported(a, kRows), *second = exported(b, kRows);
  const int same = strcmp(theriac_bytes_data(first), theriac_bytes_data(second)) == 0;
  theriac_bytes_release(first);
  theriac_bytes_release(second);
  return same;
}

/* A number of the description: the value of its first member of this name, or -1. */
static long described(const theriac_dataset* dataset, const char* member) {
  theriac_bytes* info = NULL;
  char key[64];
  const char* found;
  long value = -1;
  OK(theriac_dataset_info(dataset, &info, error));
  snprintf(key, sizeof key, "\"%s\":", member);
  found = strstr(theriac_bytes_data(info), key);
  if (found != NULL) value = strtol(found + strlen(key), NULL, 10);
  theriac_bytes_release(info);
  return value;
}

static theriac_dataset* opened(const char* form, const char* name, const char* more) {
  char options[8192];
  theriac_dataset* dataset = NULL;
  snprintf(options, sizeof options, "{\"format\": \"%s\", \"path\": \"%s/%s\"%s}", form, folder,
           name, more);
  OK(theriac_dataset_open(context, options, strlen(options), NULL, &dataset, error));
  return dataset;
}

static theriac_dataset* with_times(void) {
  char options[8192];
  snprintf(options, sizeof options,
           "{\"kind\": \"sequences\", \"users\": 40, \"items\": 60, \"format\": \"csv\", \"path\": "
           "\"%s/timed.csv\"}",
           folder);
  OK(theriac_dataset_generate(context, options, strlen(options), NULL, error));
  return opened("sequences", "timed.csv", "");
}

static void write_file(const char* name, const theriac_bytes* bytes) {
  FILE* file = fopen(in_folder(folder, name), "wb");
  CHECK(file != NULL);
  if (file == NULL) return;
  CHECK(fwrite(theriac_bytes_data(bytes), 1, theriac_bytes_size(bytes), file) ==
        theriac_bytes_size(bytes));
  fclose(file);
}

static void description(const theriac_dataset* dataset) {
  theriac_bytes* info = NULL;
  OK(theriac_dataset_info(dataset, &info, error));
  CHECK(strstr(theriac_bytes_data(info), "\"kind\":\"sequences\"") != NULL);
  CHECK(strstr(theriac_bytes_data(info), "\"timed\":false") != NULL);
  theriac_bytes_release(info);
  CHECK(described(dataset, "users") == 50 && described(dataset, "items") > 10);
  CHECK(described(dataset, "interactions") >= 250);
}

/* Out as text and in again: nothing is lost. */
static void text_round_trips(const theriac_dataset* dataset, const theriac_dataset* timed) {
  theriac_bytes* bytes = exported(dataset, kLines);
  theriac_dataset* copy;
  write_file("again.txt", bytes);
  theriac_bytes_release(bytes);
  copy = opened("sequences", "again.txt", "");
  CHECK(same_rows(dataset, copy));
  theriac_dataset_release(copy);

  bytes = exported(timed, kRows);
  write_file("again.csv", bytes);
  theriac_bytes_release(bytes);
  copy = opened("sequences", "again.csv", ", \"layout\": \"csv\"");
  CHECK(same_rows(timed, copy));
  theriac_dataset_release(copy);

  bytes = exported(timed, "{\"table\": \"vocabulary\", \"format\": \"jsonl\"}");
  CHECK(strncmp(theriac_bytes_data(bytes), "{\"id\":1,\"item\":1}\n", 18) == 0);
  theriac_bytes_release(bytes);
  bytes = exported(timed, "{}");
  CHECK(strncmp(theriac_bytes_data(bytes), "{\"user\":1,\"items\":[", 19) == 0);
  theriac_bytes_release(bytes);
}

static void policies(const theriac_dataset* dataset) {
  theriac_dataset* core = opened("sequences", "sequences-50.txt", ", \"item_core\": 8");
  CHECK(described(core, "items") < described(dataset, "items"));
  CHECK(described(core, "interactions") < described(dataset, "interactions"));
  theriac_dataset_release(core);
}

static void saving(const theriac_dataset* dataset) {
  const char* path = in_folder(folder, "saved");
  theriac_dataset* copy;
  OK(theriac_dataset_save(dataset, path, strlen(path), 1, error));
  FAILS(THERIAC_ALREADY_EXISTS, "", theriac_dataset_save(dataset, path, strlen(path), 0, error));
  copy = opened("theriac", "saved", "");
  CHECK(same_rows(dataset, copy));
  CHECK(described(copy, "users") == described(dataset, "users"));
  theriac_dataset_release(copy);
  copy = opened("theriac", "saved", ", \"x-note\": 1");
  theriac_dataset_release(copy);
}

static void splitting(const theriac_dataset* dataset, const theriac_dataset* timed) {
  static const char by_time[] = "{\"how\": \"time\", \"valid\": 0.2, \"test\": 0.2}";
  theriac_dataset *train = NULL, *valid = NULL, *test = NULL;
  const long all = described(dataset, "interactions"), users = described(dataset, "users");
  OK(theriac_dataset_split(dataset, NULL, 0, &train, &valid, &test, error));
  CHECK(described(test, "interactions") == all);
  CHECK(described(valid, "interactions") == all - users);
  CHECK(described(train, "interactions") == all - 2 * users);
  CHECK(described(train, "items") == described(dataset, "items")); /* the vocabulary stays whole */
  theriac_dataset_release(train);
  theriac_dataset_release(valid);
  theriac_dataset_release(test);

  OK(theriac_dataset_split(timed, by_time, strlen(by_time), &train, &valid, &test, error));
  CHECK(described(train, "interactions") > 0 && described(test, "users") > 0);
  theriac_dataset_release(train);
  theriac_dataset_release(valid);
  theriac_dataset_release(test);

  FAILS(THERIAC_INVALID_ARGUMENT, "times",
        theriac_dataset_split(dataset, by_time, strlen(by_time), &train, &valid, &test, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "how",
        theriac_dataset_split(dataset, "{\"how\": \"patient\"}", 18, &train, &valid, &test, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "folds",
        theriac_dataset_split(dataset, "{\"folds\": 3}", 12, &train, &valid, &test, error));
  CHECK(train == NULL && valid == NULL && test == NULL);
}

static void arrow(const theriac_dataset* dataset) {
  static const char as_sequences[] = "{\"kind\": \"sequences\"}";
  struct ArrowArrayStream stream;
  theriac_dataset* copy = NULL;
  OK(theriac_dataset_table(dataset, "interactions", 12, &stream, error));
  OK(theriac_dataset_from_arrow(context, &stream, as_sequences, strlen(as_sequences), &copy,
                                error));
  CHECK(stream.release == NULL && same_rows(dataset, copy));
  theriac_dataset_release(copy);

  /* Taken for a cohort, and with a kind that there is not: refused, and released. */
  OK(theriac_dataset_table(dataset, "interactions", 12, &stream, error));
  FAILS(THERIAC_DATA_ERROR, "patient",
        theriac_dataset_from_arrow(context, &stream, NULL, 0, &copy, error));
  CHECK(stream.release == NULL && copy == NULL);
  OK(theriac_dataset_table(dataset, "vocabulary", 10, &stream, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "sequences",
        theriac_dataset_from_arrow(context, &stream, "{\"kind\": \"sequence\"}", 20, &copy, error));
  CHECK(stream.release == NULL && copy == NULL);
  FAILS(THERIAC_INVALID_ARGUMENT, "interactions",
        theriac_dataset_table(dataset, "codes", 5, &stream, error));
}

static void errors(const theriac_dataset* dataset) {
  static const char bad_kind[] = "{\"kind\": \"sequenzes\", \"path\": \"x\"}",
                    bad_format[] = "{\"format\": \"sequence\", \"path\": \"x\"}",
                    bad_option[] = "{\"format\": \"sequences\", \"path\": \"x\", \"item_cor\": 5}",
                    policy[] = "{\"path\": \"x\", \"item_core\": 5}",
                    missing[] = "{\"format\": \"sequences\", \"path\": \"/nonexistent/file\"}",
                    as_text[] = "{\"table\": \"interactions\", \"format\": \"lines\"}";
  theriac_dataset* made = NULL;
  theriac_bytes* bytes = NULL;
  FAILS(THERIAC_INVALID_ARGUMENT, "sequences",
        theriac_dataset_generate(context, bad_kind, strlen(bad_kind), NULL, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "did you mean 'sequences'",
        theriac_dataset_open(context, bad_format, strlen(bad_format), NULL, &made, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "item_core",
        theriac_dataset_open(context, bad_option, strlen(bad_option), NULL, &made, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "item_core",
        theriac_dataset_open(context, policy, strlen(policy), NULL, &made, error));
  FAILS(THERIAC_NOT_FOUND, "/nonexistent/file",
        theriac_dataset_open(context, missing, strlen(missing), NULL, &made, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "table",
        theriac_dataset_export(dataset, "{\"table\": \"patients\"}", 21, &bytes, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "lines",
        theriac_dataset_export(dataset, as_text, strlen(as_text), &bytes, error));
  CHECK(made == NULL && bytes == NULL);
}

static void schemas(void) {
  static const char* const kinds[] = {"dataset.open", "dataset.from_arrow", "dataset.generate",
                                      "dataset.split", "dataset.export"};
  static const char* const parts[] = {"item_core", "\"const\":\"sequences\"", "mean_length",
                                      "leave_one_out", "interactions"};
  theriac_bytes* bytes = NULL;
  size_t i;
  for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    OK(theriac_schema(kinds[i], strlen(kinds[i]), &bytes, error));
    CHECK(strstr(theriac_bytes_data(bytes), parts[i]) != NULL);
    theriac_bytes_release(bytes);
  }
}

int main(int argc, char** argv) {
  theriac_dataset *dataset, *timed;
  folder = files_folder(argc, argv);
  OK(theriac_context_create("{\"seed\": 3}", 11, &context, error));
  dataset = make_sequences(context, folder, 50);
  timed = with_times();
  description(dataset);
  text_round_trips(dataset, timed);
  policies(dataset);
  saving(dataset);
  splitting(dataset, timed);
  arrow(dataset);
  arrow(timed);
  errors(dataset);
  schemas();
  theriac_dataset_release(dataset);
  theriac_dataset_release(timed);
  theriac_context_release(context);
  return finish();
}
