/* Two fine-tuned checkpoints merged into one, in plain C. Makes tiny checkpoints in FOLDER first.
 *
 *     cc merge.c -o merge $(pkg-config --cflags --libs theriac)
 *     ./merge FOLDER
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "theriac/theriac.h"

enum { kRows = 2, kColumns = 3, kCount = kRows * kColumns };

/* A model folder: one safetensors file, its header a length and JSON, then the numbers. */
static int write_model(const char *model, const float values[kCount]) {
  static const char header[] =
      "{\"model.layers.0.mlp.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}"
      "       ";
  const unsigned long long length = sizeof header - 1; /* a multiple of 8 */
  char path[1024];
  FILE *file;
  int good;
  mkdir(model, 0777);
  snprintf(path, sizeof path, "%s/model.safetensors", model);
  if ((file = fopen(path, "wb")) == NULL) return 0;
  good = fwrite(&length, 8, 1, file) == 1 && fwrite(header, 1, length, file) == length &&
         fwrite(values, sizeof(float), kCount, file) == kCount;
  return fclose(file) == 0 && good;
}

static int print_model(const char *model) {
  char path[1024];
  float values[kCount];
  unsigned long long length = 0;
  FILE *file;
  int good, i;
  snprintf(path, sizeof path, "%s/model.safetensors", model);
  if ((file = fopen(path, "rb")) == NULL) return 0;
  good = fread(&length, 8, 1, file) == 1 && fseek(file, (long)(8 + length), SEEK_SET) == 0 &&
         fread(values, sizeof(float), kCount, file) == kCount;
  fclose(file);
  for (i = 0; good && i < kCount; i++)
    printf("%.4f%s", (double)values[i], (i + 1) % kColumns == 0 ? "\n" : " ");
  return good;
}

static int32_t on_progress(const char *phase, uint64_t done, uint64_t total, const char *metrics,
                           void *user) {
  (void)metrics, (void)user;
  fprintf(stderr, "%s %llu/%llu\n", phase, (unsigned long long)done, (unsigned long long)total);
  return 0; /* anything else cancels */
}

int main(int argc, char **argv) {
  static const float base[kCount] = {0, 0, 0, 0, 0, 0};
  static const float first[kCount] = {1, 0.5F, 0, 0, -1, 0};
  static const float second[kCount] = {0, 0.5F, 2, 0, 1, 0.25F};
  static const char two_thirds[] = "{\"weight\": 0.6666667}",
                    one_third[] = "{\"weight\": 0.3333333}";
  theriac_callbacks callbacks = {sizeof(theriac_callbacks), on_progress, NULL, NULL};
  theriac_context *context = NULL;
  theriac_merger *merger = NULL;
  theriac_bytes *report = NULL;
  theriac_error *error = NULL;
  char models[4][900], options[1200];
  const char *const names[4] = {"base", "first", "second", "merged"};
  int i, status = 1;

  if (argc != 2 || strlen(argv[1]) > 800) {
    fprintf(stderr, "usage: merge FOLDER\n");
    return 2;
  }
  mkdir(argv[1], 0777);
  for (i = 0; i < 4; i++) snprintf(models[i], sizeof models[i], "%s/%s", argv[1], names[i]);
  if (!write_model(models[0], base) || !write_model(models[1], first) ||
      !write_model(models[2], second)) {
    fprintf(stderr, "cannot write into %s\n", argv[1]);
    return 1;
  }
  /* A path with quotes or backslashes would have to be escaped as JSON wants it. */
  snprintf(options, sizeof options, "{\"base_model\": \"%s\", \"parameters\": {\"lambda\": 1.0}}",
           models[0]);

  if (theriac_context_create(NULL, 0, &context, &error) == THERIAC_OK &&
      theriac_merger_create(context, "task_arithmetic", 15, options, strlen(options), &merger,
                            &error) == THERIAC_OK &&
      theriac_merger_add(merger, models[1], strlen(models[1]), two_thirds, strlen(two_thirds),
                         &error) == THERIAC_OK &&
      theriac_merger_add(merger, models[2], strlen(models[2]), one_third, strlen(one_third),
                         &error) == THERIAC_OK &&
      theriac_merger_finish(merger, models[3], strlen(models[3]), "{\"overwrite\": true}", 19,
                            &callbacks, &report, &error) == THERIAC_OK &&
      print_model(models[3])) {
    fprintf(stderr, "report: %zu bytes of JSON\n", theriac_bytes_size(report));
    status = 0;
  } else {
    fprintf(stderr, "%s\n", theriac_error_message(error));
  }

  theriac_error_release(error);
  theriac_bytes_release(report);
  theriac_merger_release(merger);
  theriac_context_release(context);
  if (theriac_live_objects() != 0) {
    fprintf(stderr, "%ld objects were not released\n", (long)theriac_live_objects());
    return 3;
  }
  return status;
}
