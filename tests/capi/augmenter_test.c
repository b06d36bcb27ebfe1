/* Augmenters over the boundary, without the engine. */
#include <math.h>
#include <pthread.h>

#include "harness.h"

static theriac_context* context;

static const int32_t kHistory[6] = {1, 2, 3, 4, 5, 6};

struct copies {
  uint64_t offset[65], count, ids;
  double weight[64];
  int32_t id[512];
};

static void take(const theriac_augmenter* augmenter, uint64_t key, struct copies* copies) {
  memset(copies, 0, sizeof *copies);
  OK(theriac_augmenter_apply(augmenter, kHistory, 6, &key, 64, copies->offset, copies->weight, 512,
                             copies->id, &copies->count, &copies->ids, error));
}

static theriac_augmenter* make(const char* options) {
  static const int32_t next[6] = {2, 3, 4, 5, 6, 1};
  theriac_augmenter* augmenter = NULL;
  OK(theriac_augmenter_create(context, options, strlen(options), 6, next, 1, &augmenter, error));
  return augmenter;
}

static void copying(void) {
  static const char removing[] = "{\"op\": \"tmask_r\", \"dedup\": false}";
  struct copies copies, again;
  theriac_bytes* bytes = NULL;
  double sum = 0;
  uint64_t c;
  theriac_augmenter* augmenter = make(removing);
  take(augmenter, 7, &copies);
  CHECK(copies.count == 10 && copies.ids == 30 && copies.offset[0] == 0 && copies.offset[10] == 30);
  for (c = 0; c < copies.count; c++) {
    sum += copies.weight[c];
    CHECK(copies.offset[c + 1] - copies.offset[c] == 3);
  }
  CHECK(fabs(sum - 1) < 1e-12);
  take(augmenter, 7, &again);
  CHECK(memcmp(&copies, &again, sizeof copies) == 0);
  take(augmenter, 8, &again);
  CHECK(memcmp(&copies, &again, sizeof copies) != 0);
  OK(theriac_augmenter_info(augmenter, &bytes, error));
  CHECK(strstr(theriac_bytes_data(bytes), "\"seed\":3") != NULL); /* the context's */
  theriac_bytes_release(bytes);
  CHECK(theriac_augmenter_retain(augmenter) == augmenter);
  theriac_augmenter_release(augmenter);
  theriac_augmenter_release(augmenter);

  augmenter = make("{\"op\": \"substitute\", \"ratio\": 0.99, \"copies\": 1}");
  take(augmenter, 1, &copies);
  CHECK(copies.count == 1 && copies.ids == 6);
  for (c = 0, sum = 0; c < 6; c++) sum += copies.id[c] != kHistory[c];
  CHECK(sum == 5);
  theriac_augmenter_release(augmenter);
}

static void bad_input(void) {
  static const int32_t wrong[2] = {1, 9}, itself[6] = {1, 1, 1, 1, 1, 1};
  struct copies copies;
  theriac_augmenter* augmenter = NULL;
  theriac_augmenter* made = make("{\"dedup\": false}");
  FAILS(THERIAC_INVALID_ARGUMENT, "context",
        theriac_augmenter_create(NULL, NULL, 0, 0, NULL, 0, &augmenter, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "out",
        theriac_augmenter_create(context, NULL, 0, 0, NULL, 0, NULL, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "ratio",
        theriac_augmenter_create(context, "{\"ratoi\": 1}", 12, 0, NULL, 0, &augmenter, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "ratio",
        theriac_augmenter_create(context, "{\"ratio\": 1}", 12, 0, NULL, 0, &augmenter, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "items",
        theriac_augmenter_create(context, NULL, 0, -1, NULL, 0, &augmenter, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "similar",
        theriac_augmenter_create(context, NULL, 0, 6, NULL, 1, &augmenter, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "item 1",
        theriac_augmenter_create(context, NULL, 0, 6, itself, 1, &augmenter, error));
  FAILS(
      THERIAC_INVALID_ARGUMENT, "table of similar items",
      theriac_augmenter_create(context, "{\"op\": \"insert\"}", 16, 6, NULL, 0, &augmenter, error));
  CHECK(augmenter == NULL);
  FAILS(THERIAC_INVALID_ARGUMENT, "position 1: item 9",
        theriac_augmenter_apply(made, wrong, 2, NULL, 64, copies.offset, copies.weight, 512,
                                copies.id, &copies.count, &copies.ids, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "empty",
        theriac_augmenter_apply(made, NULL, 0, NULL, 64, copies.offset, copies.weight, 512,
                                copies.id, &copies.count, &copies.ids, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "history",
        theriac_augmenter_apply(made, NULL, 3, NULL, 64, copies.offset, copies.weight, 512,
                                copies.id, &copies.count, &copies.ids, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "weight",
        theriac_augmenter_apply(made, kHistory, 6, NULL, 64, copies.offset, NULL, 512, copies.id,
                                &copies.count, &copies.ids, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "copies",
        theriac_augmenter_apply(made, kHistory, 6, NULL, 64, copies.offset, copies.weight, 512,
                                copies.id, NULL, &copies.ids, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "10 and 30 are needed",
        theriac_augmenter_apply(made, kHistory, 6, NULL, 9, copies.offset, copies.weight, 512,
                                copies.id, &copies.count, &copies.ids, error));
  CHECK(copies.count == 10 && copies.ids == 30);
  FAILS(THERIAC_INVALID_ARGUMENT, "10 and 30 are needed",
        theriac_augmenter_apply(made, kHistory, 6, NULL, 0, NULL, NULL, 0, NULL, &copies.count,
                                &copies.ids, error));
  FAILS(THERIAC_INVALID_ARGUMENT, "augmenter",
        theriac_augmenter_info((theriac_augmenter*)context, NULL, error));
  theriac_augmenter_release(made);
  theriac_augmenter_release(NULL);
}

static const theriac_augmenter* shared;
static struct copies expected;

static void* applies(void* unused) {
  int i;
  (void)unused;
  for (i = 0; i < 200; i++) {
    struct copies copies;
    take(shared, 7, &copies);
    if (memcmp(&copies, &expected, sizeof copies) != 0) return (void*)&expected;
  }
  return NULL;
}

static void threads(void) {
  pthread_t thread[4];
  int i;
  theriac_augmenter* augmenter = make("{\"op\": \"insert\"}");
  shared = augmenter;
  take(augmenter, 7, &expected);
  for (i = 0; i < 4; i++) CHECK(pthread_create(&thread[i], NULL, applies, NULL) == 0);
  for (i = 0; i < 4; i++) {
    void* differs = &expected;
    CHECK(pthread_join(thread[i], &differs) == 0);
    CHECK(differs == NULL);
  }
  theriac_augmenter_release(augmenter);
}

int main(int argc, char** argv) {
  theriac_bytes* bytes = NULL;
  (void)argc, (void)argv;
  OK(theriac_context_create("{\"seed\": 3}", 11, &context, error));
  copying();
  bad_input();
  threads();
  OK(theriac_schema("augmenter", 9, &bytes, error));
  CHECK(strstr(theriac_bytes_data(bytes), "\"ratio_high\"") != NULL);
  theriac_bytes_release(bytes);
  theriac_context_release(context);
  return finish();
}
