/* Ranked medication classes for one patient, in plain C.
 *
 *     cc recommend.c -o recommend $(pkg-config --cflags --libs theriac)
 *     ./recommend MODEL request.json
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "theriac/theriac.h"

static char *read_text(const char *path, size_t *length) {
  FILE *file = fopen(path, "rb");
  char *text = NULL;
  long size;
  if (file == NULL) return NULL;
  if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 && fseek(file, 0, SEEK_SET) == 0 &&
      (text = malloc((size_t)size + 1)) != NULL) {
    *length = fread(text, 1, (size_t)size, file);
    text[*length] = '\0';
  }
  fclose(file);
  return text;
}

int main(int argc, char **argv) {
  theriac_context *context = NULL;
  theriac_model *model = NULL;
  theriac_session *session = NULL;
  theriac_bytes *answer = NULL;
  theriac_error *error = NULL;
  size_t length = 0;
  char *request;
  int status = 1;

  if (argc != 3 || (request = read_text(argv[2], &length)) == NULL) {
    fprintf(stderr, "usage: recommend MODEL REQUEST.json\n");
    return 2;
  }
  if (theriac_context_create(NULL, 0, &context, &error) == THERIAC_OK &&
      theriac_model_load(context, argv[1], strlen(argv[1]), NULL, 0, &model, &error) ==
          THERIAC_OK &&
      theriac_session_create(model, NULL, 0, &session, &error) == THERIAC_OK &&
      theriac_session_recommend(session, request, length, &answer, &error) == THERIAC_OK) {
    printf("%s\n", theriac_bytes_data(answer));
    status = 0;
  } else {
    fprintf(stderr, "%s\n", theriac_error_message(error));
  }

  theriac_error_release(error);
  theriac_bytes_release(answer);
  theriac_session_release(session);
  theriac_model_release(model);
  theriac_context_release(context);
  free(request);
  if (theriac_live_objects() != 0) {
    fprintf(stderr, "%ld objects were not released\n", (long)theriac_live_objects());
    return 3;
  }
  return status;
}
