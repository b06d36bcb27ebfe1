/* The ten items a user may want next, in plain C: once plainly, once as the mean over ten copies of the
 * history with half of its items removed.
 *
 *     cc next_item.c -o next_item $(pkg-config --cflags --libs theriac)
 *     ./next_item MODEL ITEM ITEM ...          oldest first
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "theriac/theriac.h"

enum { kMostItems = 1000, kListed = 10 };

static theriac_status print_next(theriac_session *session, const char *title,
                                 const int64_t *history, uint64_t count, theriac_error **error) {
  int64_t item[kListed];
  float score[kListed];
  uint64_t ranked = 0, ignored = 0, i;
  const theriac_status status = theriac_session_recommend_history(
      session, history, count, NULL, kListed, item, score, &ranked, &ignored, error);
  if (status != THERIAC_OK) return status;
  printf("%s\n", title);
  for (i = 0; i < ranked; i++) printf("%10lld %9.4f\n", (long long)item[i], (double)score[i]);
  if (ignored > 0)
    printf("%lu of %lu items are unknown\n", (unsigned long)ignored, (unsigned long)count);
  return status;
}

int main(int argc, char **argv) {
  static const char options[] = "{\"op\": \"tmask_r\", \"ratio\": 0.5, \"copies\": 10}";
  theriac_context *context = NULL;
  theriac_model *model = NULL;
  theriac_session *session = NULL;
  theriac_augmenter *augmenter = NULL;
  theriac_error *error = NULL;
  int64_t history[kMostItems];
  uint64_t count = 0;
  int status = 1;

  if (argc < 3 || argc - 2 > kMostItems) {
    fprintf(stderr, "usage: next_item MODEL ITEM...\n");
    return 2;
  }
  for (; count < (uint64_t)(argc - 2); count++) history[count] = strtoll(argv[count + 2], NULL, 10);

  if (theriac_context_create(NULL, 0, &context, &error) == THERIAC_OK &&
      theriac_model_load(context, argv[1], strlen(argv[1]), NULL, 0, &model, &error) ==
          THERIAC_OK &&
      theriac_session_create(model, NULL, 0, &session, &error) == THERIAC_OK &&
      print_next(session, "plain", history, count, &error) == THERIAC_OK &&
      theriac_augmenter_create(context, options, strlen(options), 0, NULL, 0, &augmenter, &error) ==
          THERIAC_OK &&
      theriac_session_set_augmenter(session, augmenter, &error) == THERIAC_OK &&
      print_next(session, "augmented", history, count, &error) == THERIAC_OK) {
    status = 0;
  } else {
    fprintf(stderr, "%s\n", theriac_error_message(error));
  }

  theriac_error_release(error);
  theriac_augmenter_release(augmenter);
  theriac_session_release(session);
  theriac_model_release(model);
  theriac_context_release(context);
  if (theriac_live_objects() != 0) {
    fprintf(stderr, "%ld objects were not released\n", (long)theriac_live_objects());
    return 3;
  }
  return status;
}
