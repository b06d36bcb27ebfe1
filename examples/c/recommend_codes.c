/* The same question with plain arrays: no JSON, nothing allocated after the first call.
 *
 *     ./recommend_codes MODEL
 */
#include <stdio.h>
#include <string.h>

#include "theriac/theriac.h"

int main(int argc, char **argv) {
  /* Two visits of one patient: type 2 diabetes and hypertension, then heart failure. */
  static const int32_t visit[] = {0, 0, 0, 0, 1, 1, 1};
  static const int32_t field[] = {THERIAC_DIAGNOSIS,  THERIAC_DIAGNOSIS, THERIAC_MEDICATION,
                                  THERIAC_MEDICATION, THERIAC_DIAGNOSIS, THERIAC_DIAGNOSIS,
                                  THERIAC_DIAGNOSIS};
  static const int32_t system[] = {THERIAC_ICD10CM, THERIAC_ICD10CM, THERIAC_ATC,    THERIAC_ATC,
                                   THERIAC_ICD10CM, THERIAC_ICD10CM, THERIAC_ICD10CM};
  static const char *const code[] = {"E11.9", "I10", "A10B", "C09A", "I50.21", "E11.9", "N18.3"};
  const char *class_code[10];
  float probability[10];
  uint64_t count = 0, ignored = 0, i;
  theriac_context *context = NULL;
  theriac_model *model = NULL;
  theriac_session *session = NULL;
  theriac_error *error = NULL;
  int status = 1;

  if (argc != 2) {
    fprintf(stderr, "usage: recommend_codes MODEL\n");
    return 2;
  }
  if (theriac_context_create(NULL, 0, &context, &error) == THERIAC_OK &&
      theriac_model_load(context, argv[1], strlen(argv[1]), NULL, 0, &model, &error) ==
          THERIAC_OK &&
      theriac_session_create(model, NULL, 0, &session, &error) == THERIAC_OK &&
      theriac_session_recommend_codes(session, sizeof(visit) / sizeof(visit[0]), visit, field,
                                      system, code, 10, class_code, probability, &count, &ignored,
                                      &error) == THERIAC_OK) {
    for (i = 0; i < count; i++) printf("%-6s %.4f\n", class_code[i], (double)probability[i]);
    printf("%lu of 7 codes had no use\n", (unsigned long)ignored);
    status = 0;
  } else {
    fprintf(stderr, "%s\n", theriac_error_message(error));
  }

  theriac_error_release(error);
  theriac_session_release(session);
  theriac_model_release(model);
  theriac_context_release(context);
  return status == 0 && theriac_live_objects() != 0 ? 3 : status;
}
