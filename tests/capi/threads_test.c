/* One model, many threads: identical bits to the serial run, and BUSY where a handle is exclusive. */
#include <pthread.h>

#include "harness.h"

#define THREADS 8
#define CLASSES 12
#define CASES 16

/* Fewer rounds where a sanitizer makes each one slow; the release build runs them all. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define ROUNDS 500
#else
#define ROUNDS 10000
#endif

static theriac_model* model;
static const char* const kCodes[CASES] = {"E11.9",  "I10",     "I50.21", "N18.3", "J44.1", "I48.91",
                                          "F32.9",  "E78.5",   "K21.9",  "J18.9", "N39.0", "A41.9",
                                          "M17.11", "G40.909", "E03.9",  "Z99.99"};
static float expected[CASES][CLASSES];

/* Case c: two visits with three codes, the second visit's depending on c. */
static int score(theriac_session* session, int c, float* probability) {
  const int32_t visit[] = {0, 0, 1},
                field[] = {THERIAC_DIAGNOSIS, THERIAC_MEDICATION, THERIAC_DIAGNOSIS};
  const int32_t system[] = {THERIAC_ICD10CM, THERIAC_ATC, THERIAC_ICD10CM};
  const char* code[3];
  const char* class_code[CLASSES];
  uint64_t count = 0;
  code[0] = kCodes[(c + 3) % CASES], code[1] = "C09A", code[2] = kCodes[c];
  return theriac_session_recommend_codes(session, 3, visit, field, system, code, CLASSES,
                                         class_code, probability, &count, NULL,
                                         NULL) == THERIAC_OK &&
         count == CLASSES;
}

static void* worker(void* user) {
  theriac_session* session = NULL;
  int *wrong = user, i;
  if (theriac_session_create(model, NULL, 0, &session, NULL) != THERIAC_OK) {
    *wrong = ROUNDS;
    return NULL;
  }
  for (i = 0; i < ROUNDS; i++) {
    float probability[CLASSES];
    if (!score(session, i % CASES, probability) ||
        memcmp(probability, expected[i % CASES], sizeof probability) != 0)
      ++*wrong;
  }
  theriac_session_release(session);
  return NULL;
}

static theriac_session* shared_session;
static void* intruder(void* user) {
  int *busy = user, i;
  for (i = 0; i < ROUNDS; i++) {
    theriac_bytes* answer = NULL;
    theriac_status status =
        theriac_session_explain(shared_session, kRequest, strlen(kRequest), &answer, NULL);
    if (status == THERIAC_BUSY)
      ++*busy;
    else if (status != THERIAC_OK)
      *busy = -1000000;
    theriac_bytes_release(answer);
    if (*busy > 0 || *busy < 0) break;
  }
  return NULL;
}

int main(int argc, char** argv) {
  const char* folder = files_folder(argc, argv);
  theriac_context* context = NULL;
  theriac_dataset* dataset;
  theriac_session* session = NULL;
  pthread_t threads[THREADS];
  int wrong[THREADS] = {0}, busy[2] = {0, 0}, i;

  OK(theriac_context_create("{\"seed\": 3, \"threads\": 1}", 25, &context, error));
  dataset = make_cohort(context, folder, 40);
  model = make_model(context, dataset);
  OK(theriac_session_create(model, NULL, 0, &session, error));
  for (i = 0; i < CASES; i++) CHECK(score(session, i, expected[i]));
  for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, worker, &wrong[i]) == 0);
  for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0 && wrong[i] == 0);

  /* Two threads on one session: one of them is told, nothing breaks. */
  shared_session = session;
  for (i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, intruder, &busy[i]) == 0);
  for (i = 0; i < 2; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(busy[0] >= 0 && busy[1] >= 0 && busy[0] + busy[1] > 0);

  theriac_session_release(session);
  theriac_model_release(model);
  theriac_dataset_release(dataset);
  theriac_context_release(context);
  return finish();
}
