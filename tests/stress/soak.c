/* The life of a model, over and over, from four threads at once: fit, save, load, score, explain,
 * release. Memory must stay flat, answers of a saved and loaded model must be those of the fitted
 * one, and nothing may live at the end.
 *
 *     soak FOLDER [SECONDS]        default 15; from 60 s on, growth of memory is a failure
 */
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "../capi/harness.h"

#define THREADS 4
#define SCORES 200

typedef struct worker_state {
  const theriac_context* context;
  const theriac_dataset* dataset;
  const char* folder;
  double end;
  int number, rounds, failures;
} worker_state;

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static double resident_megabytes(void) {
  long size = 0, resident = 0;
  FILE* file = fopen("/proc/self/statm", "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%ld %ld", &size, &resident) != 2) resident = 0;
  fclose(file);
  return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1e6;
}

/* Whether the two models answer alike, SCORES times over. */
static int same_answers(const theriac_model* fitted, const theriac_model* loaded) {
  const theriac_model* models[2];
  theriac_bytes* answers[2] = {NULL, NULL};
  int m, i, good = 1;
  models[0] = fitted, models[1] = loaded;
  for (m = 0; m < 2; m++) {
    theriac_session* session = NULL;
    theriac_bytes* explanation = NULL;
    good &= theriac_session_create(models[m], NULL, 0, &session, NULL) == THERIAC_OK;
    for (i = 0; good && i < SCORES; i++) {
      theriac_bytes_release(answers[m]);
      good &= theriac_session_recommend(session, kRequest, strlen(kRequest), &answers[m], NULL) ==
              THERIAC_OK;
    }
    good &= theriac_session_explain(session, kRequest, strlen(kRequest), &explanation, NULL) ==
            THERIAC_OK;
    theriac_bytes_release(explanation);
    theriac_session_release(session);
  }
  good = good && strcmp(theriac_bytes_data(answers[0]), theriac_bytes_data(answers[1])) == 0;
  theriac_bytes_release(answers[0]);
  theriac_bytes_release(answers[1]);
  return good;
}

static int one_life(const worker_state* state) {
  static const char* const kMethods[] = {"gamenet", "retain"};
  static const char kOptions[] =
      "{\"encoder\": {\"dim\": 16}, \"train\": {\"epochs\": 1}, \"tree\": {\"epochs\": 1}}";
  const char* method = kMethods[(state->number + state->rounds) % 2];
  theriac_model *fitted = NULL, *loaded = NULL;
  char path[4096];
  int good;
  snprintf(path, sizeof path, "%s/model-%d", state->folder, state->number);
  good = theriac_model_create(state->context, method, strlen(method), kOptions, strlen(kOptions),
                              &fitted, NULL) == THERIAC_OK &&
         theriac_model_fit(fitted, state->dataset, NULL, NULL, 0, NULL, NULL) == THERIAC_OK &&
         theriac_model_save(fitted, path, strlen(path), 1, NULL) == THERIAC_OK &&
         theriac_model_load(state->context, path, strlen(path), NULL, 0, &loaded, NULL) ==
             THERIAC_OK &&
         same_answers(fitted, loaded);
  theriac_model_release(loaded);
  theriac_model_release(fitted);
  return good;
}

static void* worker(void* user) {
  worker_state* state = user;
  do {
    if (!one_life(state)) state->failures++;
    state->rounds++;
  } while (now() < state->end);
  return NULL;
}

int main(int argc, char** argv) {
  const char* folder = files_folder(argc, argv);
  const double seconds = argc > 2 ? atof(argv[2]) : 15, start = now();
  theriac_context* context = NULL;
  theriac_dataset* dataset;
  pthread_t threads[THREADS];
  worker_state states[THREADS];
  double settled = 0, last = 0, next = seconds / 20;
  int i, lives = 0;

  OK(theriac_context_create("{\"seed\": 3, \"threads\": 1}", 25, &context, error));
  dataset = make_cohort(context, folder, 40);
  for (i = 0; i < THREADS; i++) {
    states[i].context = context, states[i].dataset = dataset, states[i].folder = folder;
    states[i].end = start + seconds, states[i].number = i;
    states[i].rounds = states[i].failures = 0;
    CHECK(pthread_create(&threads[i], NULL, worker, &states[i]) == 0);
  }
  /* The highest reading of the second quarter against that of the last. */
  while (now() < start + seconds) {
    const double elapsed = now() - start, memory = resident_megabytes();
    if (elapsed > seconds / 4 && elapsed < seconds / 2 && memory > settled) settled = memory;
    if (elapsed > seconds * 3 / 4 && memory > last) last = memory;
    if (elapsed >= next) {
      printf("%6.0f s  %8.1f MB\n", elapsed, memory);
      fflush(stdout);
      next += seconds / 20;
    }
    usleep(100000);
  }
  for (i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(states[i].failures == 0);
    lives += states[i].rounds;
  }
  printf("%d lives of a model in %.0f s; %.1f MB in the second quarter, %.1f MB in the last\n",
         lives, seconds, settled, last);
  if (seconds >= 60) CHECK(last <= 1.03 * settled + 4);
  theriac_dataset_release(dataset);
  theriac_context_release(context);
  return finish();
}
