/* A few lines of test harness, and a small fitted model to test with. */
#ifndef THERIAC_TESTS_CAPI_HARNESS_H_
#define THERIAC_TESTS_CAPI_HARNESS_H_

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "theriac/theriac.h"

extern int passed, failed;

#define CHECK(condition)                                                      \
  do {                                                                        \
    if (condition) {                                                          \
      passed++;                                                               \
    } else {                                                                  \
      failed++;                                                               \
      fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                         \
  } while (0)

/* Status is OK, or the error's message is printed and the test fails. Releases the error. */
#define OK(call)                                                    \
  do {                                                              \
    theriac_error* error_of_call = NULL;                            \
    theriac_error** error = &error_of_call;                         \
    theriac_status status_of_call = (call);                         \
    if (status_of_call != THERIAC_OK) {                             \
      fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, \
              theriac_error_message(error_of_call));                \
    }                                                               \
    CHECK(status_of_call == THERIAC_OK);                            \
    theriac_error_release(error_of_call);                           \
  } while (0)

/* The call fails with this status, and its message contains `part`. */
#define FAILS(expected, part, call)                                                 \
  do {                                                                              \
    theriac_error* error_of_call = NULL;                                            \
    theriac_error** error = &error_of_call;                                         \
    theriac_status status_of_call = (call);                                         \
    int as_expected = status_of_call == (expected) &&                               \
                      theriac_error_code(error_of_call) == (expected) &&            \
                      strstr(theriac_error_message(error_of_call), (part)) != NULL; \
    if (!as_expected) {                                                             \
      fprintf(stderr, "%s:%d: %s: status %d, \"%s\"\n", __FILE__, __LINE__, #call,  \
              (int)status_of_call, theriac_error_message(error_of_call));           \
    }                                                                               \
    CHECK(as_expected);                                                             \
    theriac_error_release(error_of_call);                                           \
  } while (0)

/* A folder for this program's files, from its first argument. */
const char* files_folder(int argc, char** argv);
/* "FOLDER/name" in a buffer that the next call reuses four calls later. */
const char* in_folder(const char* folder, const char* name);

/* A generated cohort of `patients`, read through the FHIR reader. */
theriac_dataset* make_cohort(const theriac_context* context, const char* folder, int patients);
/* A small GAMENet with HIER encoders, fitted on it. */
theriac_model* make_model(const theriac_context* context, const theriac_dataset* dataset);

/* Generated sequences of `users` users over 60 items, read back from text lines. */
theriac_dataset* make_sequences(const theriac_context* context, const char* folder, int users);
/* A small SASRec, fitted on `train` and selected on `valid`. */
theriac_model* make_sequence_model(const theriac_context* context, const theriac_dataset* train,
                                   const theriac_dataset* valid);

extern const char kRequest[];
extern const char kSmallSasrec[]; /* options of make_sequence_model */

/* Prints the totals; checks that nothing lives. Returns main's result. */
int finish(void);

#endif
