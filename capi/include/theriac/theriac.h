/* theriac.h: the C ABI of Theriac.
 *
 * Theriac recommends medication classes for a patient, recommends items from graphs and sequences,
 * improves trained models at test time, and merges models, inside your own process and on your own
 * device.
 *
 *     theriac_context *context = NULL;
 *     theriac_model *model = NULL;
 *     theriac_session *session = NULL;
 *     theriac_bytes *answer = NULL;
 *     theriac_error *error = NULL;
 *     if (theriac_context_create("{}", 2, &context, &error) != THERIAC_OK ||
 *         theriac_model_load(context, "model", 5, NULL, 0, &model, &error) != THERIAC_OK ||
 *         theriac_session_create(model, NULL, 0, &session, &error) != THERIAC_OK ||
 *         theriac_session_recommend(session, request, length, &answer, &error) != THERIAC_OK) {
 *       fprintf(stderr, "%s\n", theriac_error_message(error));
 *     } else {
 *       printf("%s\n", theriac_bytes_data(answer));
 *     }
 *     theriac_error_release(error);
 *     theriac_bytes_release(answer);
 *     theriac_session_release(session);
 *     theriac_model_release(model);
 *     theriac_context_release(context);
 *
 * Conventions, valid for every function:
 *
 *  - Handles are opaque. `_release` takes NULL, never fails, may be called from any thread and in
 *    any order: a child keeps what it needs of its parent alive. `_retain` adds an owner; each
 *    owner releases once.
 *  - Functions that can fail return a theriac_status and take `theriac_error **error` last. It may
 *    be NULL. Otherwise it is set to NULL on success and to an error the caller releases on
 *    failure. Nothing is thread-local: the error may be read on another thread.
 *  - A failed call leaves its inputs as they were and sets its outputs to NULL or zero, except
 *    where a function says otherwise.
 *  - Text in is UTF-8 with a length, NUL not required; NULL with length 0 means "none". Text out is
 *    UTF-8, NUL-terminated, with a length beside it.
 *  - Configuration is JSON text. Unknown keys, wrong types and values out of range are errors that
 *    name the nearest valid key; keys starting with "x-" are ignored. theriac_schema() describes
 *    every document.
 *  - Thread safety. `const` on a handle means that the call may run at the same time as other const
 *    calls on it. A non-const handle is exclusive: a second call that enters it meanwhile returns
 *    THERIAC_BUSY. Use one theriac_session for each thread over one shared, loaded theriac_model.
 *  - The library prints nothing, installs no signal handler, starts no thread before first use, and
 *    never calls exit or abort. After fork() every call in the child returns THERIAC_FORKED.
 *  - THERIAC_OUT_OF_MEMORY is reported wherever memory runs out, with one exception: a call that
 *    reads or writes JSON may end the process when its JSON library can not allocate while freeing
 *    (docs/decisions/0003).
 *  - Ids (patients, visits, items) are the host's own strings or 64-bit integers.
 *
 * Recommendations are classes with probabilities and their basis, for a professional to review;
 * they are not orders. Read docs/recommendation.md before showing one to anybody.
 */
#ifndef THERIAC_THERIAC_H_
#define THERIAC_THERIAC_H_

#include <stddef.h>
#include <stdint.h>

/* The ABI's version; theriac_init() compares it with the library's. */
#define THERIAC_ABI_MAJOR 1
#define THERIAC_ABI_MINOR 0
#define THERIAC_ABI_VERSION (((uint32_t)THERIAC_ABI_MAJOR << 16) | (uint32_t)THERIAC_ABI_MINOR)

#if defined(_WIN32)
#define THERIAC_CALL __cdecl
#if defined(THERIAC_BUILDING)
#define THERIAC_API __declspec(dllexport)
#else
#define THERIAC_API __declspec(dllimport)
#endif
#elif defined(__GNUC__) || defined(__clang__)
#define THERIAC_CALL
#define THERIAC_API __attribute__((visibility("default")))
#else
#define THERIAC_CALL
#define THERIAC_API
#endif

#if defined(__GNUC__) || defined(__clang__)
#define THERIAC_MUST_USE __attribute__((warn_unused_result))
#else
#define THERIAC_MUST_USE
#endif

#if defined(__cplusplus) && __cplusplus >= 201103L
#define THERIAC_NOEXCEPT noexcept
#elif defined(__cplusplus)
#define THERIAC_NOEXCEPT throw()
#else
#define THERIAC_NOEXCEPT
#endif

#if defined(__cplusplus)
extern "C" {
#endif

/* ---- Status ---------------------------------------------------------------------------------- */

/* Numbers are fixed for ever. Treat an unknown positive value as THERIAC_INTERNAL. */
typedef int32_t theriac_status;
#define THERIAC_OK ((theriac_status)0)
#define THERIAC_CANCELLED ((theriac_status)1)        /* cancel token or progress callback */
#define THERIAC_INVALID_ARGUMENT ((theriac_status)2) /* null pointer, unknown or ill-typed option */
#define THERIAC_NOT_FOUND ((theriac_status)3)        /* file, key, method */
#define THERIAC_ALREADY_EXISTS ((theriac_status)4)   /* output path without "overwrite" */
#define THERIAC_INVALID_STATE ((theriac_status)5)    /* not fitted, wrong order of calls */
#define THERIAC_DATA_ERROR ((theriac_status)6)       /* malformed or corrupt input */
#define THERIAC_IO_ERROR ((theriac_status)7)         /* details carry errno */
#define THERIAC_UNSUPPORTED ((theriac_status)8) /* no LibTorch, no such device, not this model */
#define THERIAC_OUT_OF_MEMORY ((theriac_status)9)
#define THERIAC_DEVICE_OUT_OF_MEMORY ((theriac_status)10)
#define THERIAC_DEVICE_ERROR ((theriac_status)11)  /* the process may have to be restarted */
#define THERIAC_NUMERIC_ERROR ((theriac_status)12) /* loss became NaN or infinite */
#define THERIAC_TIMEOUT ((theriac_status)13)
#define THERIAC_INCOMPATIBLE ((theriac_status)14)    /* ABI, LibTorch or file version */
#define THERIAC_FORKED ((theriac_status)15)          /* called in a child of fork() */
#define THERIAC_BUSY ((theriac_status)16)            /* exclusive handle entered twice */
#define THERIAC_CALLBACK_FAILED ((theriac_status)17) /* the host's callback returned -7 */
#define THERIAC_INTERNAL ((theriac_status)99)        /* a bug of ours: please report it */

/* ---- Handles --------------------------------------------------------------------------------- */

typedef struct theriac_error theriac_error;     /* why a call failed; immutable */
typedef struct theriac_bytes theriac_bytes;     /* text or bytes owned by the library; immutable */
typedef struct theriac_cancel theriac_cancel;   /* a latched request to stop; shared by threads */
typedef struct theriac_context theriac_context; /* device, thread budget, seed, determinism */
typedef struct theriac_dataset theriac_dataset; /* columnar and immutable; shared by threads */
typedef struct theriac_model theriac_model; /* exclusive while fitting, then shared by threads */
typedef struct theriac_session theriac_session;     /* one thread's scoring state over a model */
typedef struct theriac_merger theriac_merger;       /* models to be merged, added one by one */
typedef struct theriac_augmenter theriac_augmenter; /* copies of histories; immutable */
typedef struct theriac_result theriac_result;       /* a report with its table; immutable */

/* Declared by the Arrow C data interface and by DLPack; include their headers to look inside. */
struct ArrowArrayStream;
struct DLManagedTensorVersioned;

/* ---- Callbacks ------------------------------------------------------------------------------- */

/* Called on the thread that made the blocking call, at most ten times a second and at the end of
 * each phase or epoch. `phase` and `metrics_json` (a JSON object) are NUL-terminated and valid
 * during the call; `total` is 0 when unknown. Return 0 to go on, -7 when the host's own code failed
 * (the call then returns THERIAC_CALLBACK_FAILED), anything else to cancel (THERIAC_CANCELLED).
 * Must not throw or longjmp. */
typedef int32_t(THERIAC_CALL *theriac_progress_fn)(const char *phase, uint64_t done, uint64_t total,
                                                   const char *metrics_json, void *user);

/* Optional companions of a long call. Set struct_size to sizeof(theriac_callbacks); members may be
 * NULL. */
typedef struct theriac_callbacks {
  size_t struct_size;
  theriac_progress_fn progress;
  void *user;
  const theriac_cancel *cancel; /* must outlive the call */
} theriac_callbacks;

/* Scores a merged model, for searches. `model` is the absolute path of a model folder, NUL-terminated,
 * which is removed after the call. Write the score and return 0; leave NaN for a model that has none
 * (it counts as the worst). Return -7 when the host's own code failed (the search then returns
 * THERIAC_CALLBACK_FAILED), anything else to cancel (THERIAC_CANCELLED). Called on the thread that made
 * the blocking call. Must not throw or longjmp. */
typedef int32_t(THERIAC_CALL *theriac_evaluate_fn)(const char *model, double *score, void *user);

/* Set struct_size to sizeof(theriac_evaluator). */
typedef struct theriac_evaluator {
  size_t struct_size;
  theriac_evaluate_fn evaluate;
  void *user;
} theriac_evaluator;

/* Levels: 0 debug, 1 info, 2 warning, 3 error. Called from any thread, possibly at once. Never
 * carries patient data. */
typedef void(THERIAC_CALL *theriac_log_fn)(int32_t level, const char *component,
                                           const char *message, void *user);

/* ---- Library --------------------------------------------------------------------------------- */

/* THERIAC_ABI_VERSION of the library that was loaded. */
THERIAC_API uint32_t THERIAC_CALL theriac_abi_version(void) THERIAC_NOEXCEPT;

/* "0.1.0"; static. */
THERIAC_API const char *THERIAC_CALL theriac_version(void) THERIAC_NOEXCEPT;

/* Optional handshake: pass THERIAC_ABI_VERSION. THERIAC_INCOMPATIBLE, naming both versions, when
 * the library cannot serve a program built for it. Every other function works without it. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_init(uint32_t abi_version, theriac_error **error) THERIAC_NOEXCEPT;

/* JSON: version, abi, compiler, front library's path. Loads nothing. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_build_info(theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* JSON Schema of a configuration document. `kind`: "context", "dataset.open", "dataset.from_arrow",
 * "dataset.generate", "dataset.split", "dataset.export", "model.fit", "merge", "merge.inspect",
 * "merge.search", "merge.soup", "merge.METHOD" (options of a merge method), "merger", "augmenter",
 * "model.evaluate", "session", "request", these three also with ".sequence" for models of sequences, or
 * "method.NAME"; NULL lists the kinds and methods. Where a document of data sets depends on their kind,
 * its schema lists one alternative for each. Those of models, and the list's methods, need the engine. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_schema(const char *kind, size_t kind_length, theriac_bytes **out,
               theriac_error **error) THERIAC_NOEXCEPT;

/* Objects that live in the process, errors and bytes included: 0 when everything was released. */
THERIAC_API int64_t THERIAC_CALL theriac_live_objects(void) THERIAC_NOEXCEPT;

/* Sets the process's log receiver, NULL for silence (the default). Records below `level` are not
 * made. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_set_log(
    int32_t level, theriac_log_fn log, void *user, theriac_error **error) THERIAC_NOEXCEPT;

/* ---- Errors, bytes, cancel ------------------------------------------------------------------- */

THERIAC_API theriac_status THERIAC_CALL theriac_error_code(const theriac_error *error)
    THERIAC_NOEXCEPT;
/* One sentence: what was wrong, where, what would be right. Lives as long as the error; "" for
 * NULL. */
THERIAC_API const char *THERIAC_CALL theriac_error_message(const theriac_error *error)
    THERIAC_NOEXCEPT;
/* JSON object: "code", "name", "message", "function", "cause", and details such as "file", "line",
 * "column", "json_path", "option", "expected", "got". Lives as long as the error. */
THERIAC_API const char *THERIAC_CALL theriac_error_details(const theriac_error *error)
    THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_error_release(theriac_error *error) THERIAC_NOEXCEPT;

/* NUL-terminated; lives as long as the handle; "" for NULL. */
THERIAC_API const char *THERIAC_CALL theriac_bytes_data(const theriac_bytes *bytes)
    THERIAC_NOEXCEPT;
/* Without the terminating NUL. */
THERIAC_API size_t THERIAC_CALL theriac_bytes_size(const theriac_bytes *bytes) THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_bytes_release(theriac_bytes *bytes) THERIAC_NOEXCEPT;

THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_cancel_create(theriac_cancel **out, theriac_error **error) THERIAC_NOEXCEPT;
/* Asks every call that was given this token to stop; latched. Any thread, also a signal handler. */
THERIAC_API void THERIAC_CALL theriac_cancel_request(theriac_cancel *cancel) THERIAC_NOEXCEPT;
THERIAC_API int32_t THERIAC_CALL theriac_cancel_requested(const theriac_cancel *cancel)
    THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_cancel_release(theriac_cancel *cancel) THERIAC_NOEXCEPT;

/* ---- Context --------------------------------------------------------------------------------- */

/* Options (schema "context"): {"device": "cpu" | "cuda" | "cuda:N", "threads": 0 (all that the
 * process may use), "seed": 0, "determinism": "reproducible" | "fast", "libtorch_dir": "",
 * "engine": ""}. Cheap: the engine and LibTorch load on first need. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_context_create(const char *options_json, size_t options_length, theriac_context **out,
                       theriac_error **error) THERIAC_NOEXCEPT;
/* JSON: effective options; with the engine's facts (LibTorch version, devices, methods) when it is
 * loaded or can be, and the reason when it cannot. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_context_info(
    const theriac_context *context, theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;
THERIAC_API theriac_context *THERIAC_CALL theriac_context_retain(theriac_context *context)
    THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_context_release(theriac_context *context) THERIAC_NOEXCEPT;

/* ---- Codes ----------------------------------------------------------------------------------- */

/* Questions about medical code systems, without any data set. Request: {"op": "ancestors",
 * "system": "icd10cm", "codes": ["S72.001A"], "list": "nodes.csv.gz" (optional)} gives each code's
 * normal form, whether it is listed, its chain to the root and its nearest listed ancestor; {"op":
 * "info", "system": ..., "list": ...} counts nodes by level; {"op": "import", "system": ...,
 * "list": FILE, "format": "csv" | "cms-order", "path": OUT.csv} checks an official list and writes
 * it in our form. Without "list" the built-in structural hierarchy answers. Needs no engine. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_codes_query(const theriac_context *context, const char *request_json, size_t request_length,
                    theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* ---- Data sets ------------------------------------------------------------------------------- */

/* A data set is of one kind, which its functions go by: a cohort (patients, their visits, coded entries)
 * or sequences (users and the items of each in time order). A model given the kind it does not take
 * refuses it.
 *
 * Reads a data set. Options (schema "dataset.open"): {"format": "theriac" (a saved directory of either
 * kind) | "mimic-iii" | "mimic-iv" | "fhir" | "sequences", "path": ..., and the policy}. Policy of
 * records: {"med_map", "visit_order", "maps": {...}, ...}. Policy of sequences: {"layout": "auto" |
 * "lines" (USER ITEM ITEM ..., oldest first) | "csv" (one interaction a row), "user": "user", "item":
 * "item", "time": "time" (columns of csv), "delimiter": ",", "repeats": "keep" | "first" | "last",
 * "user_core": 1, "item_core": 1}. Long: takes progress and cancel. Everything dropped is counted
 * (theriac_dataset_info). Needs no engine. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_dataset_open(const theriac_context *context, const char *options_json,
                     size_t options_length, const theriac_callbacks *callbacks,
                     theriac_dataset **out, theriac_error **error) THERIAC_NOEXCEPT;

/* A data set from an Arrow stream. {"kind": "cohort"} (the default): coded entries, one row a code:
 * columns patient, visit (text or integer), time (timestamp, integer seconds or text), field
 * ("diagnoses" | "procedures" | "medications"), system, code. {"kind": "sequences"}: one row an
 * interaction, in any order: columns user, item (text or integer), time (as above; may be absent, then
 * the order of rows counts). The stream is consumed and released, also on failure. Other options (schema
 * "dataset.from_arrow"): the policy, as in theriac_dataset_open. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_dataset_from_arrow(
    const theriac_context *context, struct ArrowArrayStream *stream, const char *options_json,
    size_t options_length, theriac_dataset **out, theriac_error **error) THERIAC_NOEXCEPT;

/* Writes synthetic data in real file layouts. Options (schema "dataset.generate"): {"kind":
 * "cohort", "path": DIR, "format": "fhir" | "mimic-iv", "patients": 1000, "hospital": 0, "seed": 1,
 * ...}; {"kind": "sequences", "path": FILE, "format": "lines" | "csv" (with times), "users": 1000,
 * "items": 500, "seed": 1, ...}; or {"kind": "hierarchy_claim", "path": DIR, ...}, which writes the data
 * sets train, test_seen and test_unseen. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_dataset_generate(
    const theriac_context *context, const char *options_json, size_t options_length,
    const theriac_callbacks *callbacks, theriac_error **error) THERIAC_NOEXCEPT;

/* Divides a data set; the parts keep its vocabularies. Options (schema "dataset.split"), of a cohort:
 * {"how": "patient" | "time" | "file_order" | "fold", "valid": 0.1, "test": 0.1, "seed": 1994, "folds":
 * 5, "fold": 0}. Of sequences: {"how": "leave_one_out" | "time", "valid": 0.1, "test": 0.1 (of time:
 * shares of the interactions, the latest in test)}; the last item of each sequence of `valid` and `test`
 * is the answer that evaluation asks for, those before it are its history. The three outputs are set
 * together. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_dataset_split(const theriac_dataset *dataset, const char *options_json,
                      size_t options_length, theriac_dataset **train, theriac_dataset **valid,
                      theriac_dataset **test, theriac_error **error) THERIAC_NOEXCEPT;

/* JSON: kind, counts (patients and visits, or users, items and interactions), vocabularies' sizes and
 * statistics per visit, or lengths of sequences; accounting (rows read, kept, dropped and why),
 * provenance, fingerprint. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_dataset_info(
    const theriac_dataset *dataset, theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* A table as an Arrow stream, without a copy of the columns where they are stored as Arrow wants
 * them. Of a cohort: "codes" (the long form that theriac_dataset_from_arrow reads), "visits",
 * "patients", "vocabulary". Of sequences: "interactions" (user, item, time; as
 * theriac_dataset_from_arrow reads), "vocabulary" (id, item). `stream` is filled; its release callback
 * may be called from any thread, after the data set was released too. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_dataset_table(const theriac_dataset *dataset, const char *table, size_t table_length,
                      struct ArrowArrayStream *stream, theriac_error **error) THERIAC_NOEXCEPT;

/* A table as text. Options (schema "dataset.export"): {"table": ..., "format": "csv" | "jsonl" |
 * "arrow" (an Arrow IPC stream, binary)}; tables of a cohort: "patients", "visits", "codes",
 * "vocabulary"; of sequences: "sequences" (one user a row; also as "lines", the layout that
 * theriac_dataset_open reads), "interactions", "vocabulary". */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_dataset_export(
    const theriac_dataset *dataset, const char *options_json, size_t options_length,
    theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* Writes a directory that theriac_dataset_open reads back, whole or not at all. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_dataset_save(const theriac_dataset *dataset, const char *path, size_t path_length,
                     int32_t overwrite, theriac_error **error) THERIAC_NOEXCEPT;
THERIAC_API theriac_dataset *THERIAC_CALL theriac_dataset_retain(theriac_dataset *dataset)
    THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_dataset_release(theriac_dataset *dataset) THERIAC_NOEXCEPT;

/* ---- Models ---------------------------------------------------------------------------------- */

/* An untrained model of a method (theriac_schema(NULL) lists them). Of cohorts: "gamenet", "retain",
 * "logistic_regression", "most_frequent", "nearest_visit", "code_tree", ...; of sequences: "sasrec",
 * "gru4rec", "popularity", "item_knn", .... Options: schema "method.NAME". Loads the engine. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_model_create(const theriac_context *context, const char *method, size_t method_length,
                     const char *options_json, size_t options_length, theriac_model **out,
                     theriac_error **error) THERIAC_NOEXCEPT;

/* Trains. `train` may be NULL for methods that need no data; `valid` may be NULL, then nothing is
 * selected and nothing stops early. Options (schema "model.fit"): {"checkpoint": DIR, "resume":
 * false}. Exclusive. A cancelled fit returns THERIAC_CANCELLED and the model keeps the best weights
 * so far. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_model_fit(theriac_model *model, const theriac_dataset *train, const theriac_dataset *valid,
                  const char *options_json, size_t options_length,
                  const theriac_callbacks *callbacks, theriac_error **error) THERIAC_NOEXCEPT;

/* Reads a model directory. Options: {"threshold": ...} and others that a method lets a host change;
 * NULL for none. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_model_load(
    const theriac_context *context, const char *path, size_t path_length, const char *options_json,
    size_t options_length, theriac_model **out, theriac_error **error) THERIAC_NOEXCEPT;

/* A model from weights that another program trained: a .safetensors file whose tensors have the names
 * that the method's authors gave them. `dataset` gives the vocabulary: its items, in their order, are
 * rows 1, 2, ... of the item table, so it must hold the items that the weights were trained on. It also
 * gives the counts behind tables of similar items: give the training part alone. Options: schema
 * "method.NAME", with the sizes of the weights. THERIAC_DATA_ERROR, naming the tensor, where names or
 * shapes do not fit; THERIAC_UNSUPPORTED by methods without published weights. Loads the engine. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_model_import(
    const theriac_context *context, const char *method, size_t method_length, const char *path,
    size_t path_length, const theriac_dataset *dataset, const char *options_json,
    size_t options_length, theriac_model **out, theriac_error **error) THERIAC_NOEXCEPT;

/* Writes config.json, model.safetensors, vocabularies and tables, whole or not at all. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_model_save(const theriac_model *model, const char *path, size_t path_length,
                   int32_t overwrite, theriac_error **error) THERIAC_NOEXCEPT;

/* Metrics on a data set. theriac_result_json: {"metrics", "counts", "config", "limits", ...}. Option of
 * all models: "augment": {options of an augmenter, as in theriac_session_set_augmenter}; absent: plain
 * prediction.
 *
 * Models of cohorts; options (schema "model.evaluate"): {"threshold": 0.3, "aggregation": "per_sample"
 * | "per_patient", "bootstrap": {"rounds": 0, ...}, ...}.
 *
 * Models of sequences: each one's last item is ranked among all items but those of its history, given
 * the items before it. Options (schema "model.evaluate.sequence"): {"cutoffs": [5, 10, 20],
 * "exclude_seen": true, ...} and, to compare augmenters, "tune": [{...}, ...] | true (the usual ones)
 * with "select": "ndcg@20", in place of "augment". Metrics "hr@K" (share of answers among the first K),
 * "ndcg@K" and "mrr@K"; "by_length" of histories; with "tune" also "grid": [{"augment", "metrics"}],
 * plain prediction (null) first, and "best": {"augment"}, whose metrics the report gives. Plain
 * prediction wins ties. Tuning selects: do it on validation data. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_model_evaluate(
    const theriac_model *model, const theriac_dataset *dataset, const char *options_json,
    size_t options_length, const theriac_callbacks *callbacks, theriac_result **out,
    theriac_error **error) THERIAC_NOEXCEPT;

/* JSON: method, options, classes, vocabularies' sizes and hashes, training record, limits,
 * versions. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_model_info(
    const theriac_model *model, theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* A weight by its dotted name as a DLPack tensor (read-only flag set), without a copy. The consumer
 * calls its deleter once, from any thread, after the model was released too. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_model_tensor(const theriac_model *model, const char *name, size_t name_length,
                     struct DLManagedTensorVersioned **out, theriac_error **error) THERIAC_NOEXCEPT;
THERIAC_API theriac_model *THERIAC_CALL theriac_model_retain(theriac_model *model) THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_model_release(theriac_model *model) THERIAC_NOEXCEPT;

/* ---- Sessions: scoring ----------------------------------------------------------------------- */

/* One thread's scoring state. Options (schema "session"): {"threshold": ..., "k": ...}; of models of
 * sequences (schema "session.sequence"): {"k": 10, "exclude_seen": true, "augment": {options of an
 * augmenter, as theriac_session_set_augmenter}}; NULL for none. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_session_create(const theriac_model *model, const char *options_json, size_t options_length,
                       theriac_session **out, theriac_error **error) THERIAC_NOEXCEPT;

/* From now on the session answers with the mean over an augmenter's copies of what came before
 * (test-time augmentation): of a user's history, or of the codes of a patient's past visits. NULL:
 * plainly again. The session keeps the augmenter alive. Copies are made of the items or codes that the
 * model knows, in its own numbering, and depend on the augmenter's seed, the history and the key of the
 * request alone; what is left out as seen is the history itself. THERIAC_UNSUPPORTED, naming the
 * option, and the session is as before, by models that cannot carry the operator out:
 * theriac_model_info lists those that a model knows as "augmenters". Medication models take all but
 * noise and shifts; "substitute" and "insert" with "similar": "item_cf" or "item_cf_iuf". */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_session_set_augmenter(theriac_session *session, const theriac_augmenter *augmenter,
                              theriac_error **error) THERIAC_NOEXCEPT;

/* One patient or user, documents in and out (docs/recommendation.md).
 *
 * Models of cohorts (schema "request"): {"patient": {"visits": [{"date", "diagnoses": [{"system",
 * "code"}], "procedures": [...], "medications": [...]}]}, "k", "threshold"} -> {"classes": [{"code",
 * "probability", "recommended"}], "interactions": [...], "inputs": {"used", "ignored", "substituted"},
 * "model": {...}}. The last visit is the current one; its medications are not used.
 *
 * Models of sequences (schema "request.sequence"): {"history": [ids, oldest first], "k": 10, "key":
 * optional integer that names the user to an augmenter, "exclude_seen": true} -> {"items": [{"id",
 * "score"}], "inputs": {"used": n, "ignored": [ids that the model does not know]}, "model": {...}},
 * best first. Ids are integers or texts, as in the training data. A score is comparable within one
 * answer. A history without any known item is THERIAC_INVALID_ARGUMENT. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_session_recommend(theriac_session *session, const char *request_json, size_t request_length,
                          theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* The answer of theriac_session_recommend with "explanation": each input code's effect on each
 * listed class when left out, and the model's own attention weights. Same request. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_session_explain(theriac_session *session, const char *request_json, size_t request_length,
                        theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* Values of `field` and `system` below. */
#define THERIAC_DIAGNOSIS ((int32_t)0)
#define THERIAC_PROCEDURE ((int32_t)1)
#define THERIAC_MEDICATION ((int32_t)2)
#define THERIAC_ICD9CM ((int32_t)0)
#define THERIAC_ICD9PROC ((int32_t)1)
#define THERIAC_ICD10CM ((int32_t)2)
#define THERIAC_ICD10PCS ((int32_t)3)
#define THERIAC_ICD10 ((int32_t)4)
#define THERIAC_ATC ((int32_t)5)
#define THERIAC_LOCAL ((int32_t)11)

/* One patient, plain arrays, nothing allocated after warm-up. Entry i is code[i] (NUL-terminated;
 * dots and case as the host has them) of system[i] in field[i] of visit visit[i]; visit numbers do
 * not decrease, the last one is the current visit. Writes the `capacity` most probable classes,
 * best first: class_code[i] (lives as long as the model) and probability[i] in [0, 1]; `count` of
 * them; `ignored` entries had no use (unknown code, medication of the current visit). `ignored` may
 * be NULL. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_session_recommend_codes(
    theriac_session *session, uint64_t entries, const int32_t *visit, const int32_t *field,
    const int32_t *system, const char *const *code, uint64_t capacity, const char **class_code,
    float *probability, uint64_t *count, uint64_t *ignored, theriac_error **error) THERIAC_NOEXCEPT;

/* One user, plain arrays: item[0] ... item[count - 1] as the host numbers them, oldest first, `count` at
 * least 1. For models whose items are integers; THERIAC_UNSUPPORTED by others. Writes the `capacity` best
 * items that the history does not have, best first: ranked_item[i] and score[i]; `ranked` of them.
 * `ignored` items of the history were unknown to the model; it may be NULL. A history without any known
 * item is THERIAC_INVALID_ARGUMENT. `key`: names the user to an augmenter (theriac_session_set_augmenter);
 * NULL: the history is its own. Allocates nothing after warm-up without an augmenter. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_session_recommend_history(
    theriac_session *session, const int64_t *item, uint64_t count, const uint64_t *key,
    uint64_t capacity, int64_t *ranked_item, float *score, uint64_t *ranked, uint64_t *ignored,
    theriac_error **error) THERIAC_NOEXCEPT;

/* A batch on the context's threads: an Arrow stream in (consumed, as by theriac_dataset_from_arrow), an
 * Arrow stream out. Options (schema "batch"): {"k": 0}.
 *
 * Medication models: coded entries in; out, one row a visit and class, most probable first: patient,
 * visit, class, probability (float), recommended (bool); the k first of a visit, 0: all.
 *
 * Models of item sequences: interactions in, columns user, item and, if known, time; out, one row a user
 * and item, users as they first came, best first: user and item (int64 where all names are integers, else
 * text), rank (int32, from 1), score (float), ignored (int32: items of the user that the model does not
 * know); the k best, 0: as many as the session lists. A user of whose items the model knows none has no
 * row; more than 2^28 rows in all are THERIAC_INVALID_ARGUMENT. The answers are
 * theriac_session_recommend's, bit for bit, whoever else is in the batch. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_session_recommend_arrow(
    theriac_session *session, struct ArrowArrayStream *stream, const char *options_json,
    size_t options_length, const theriac_callbacks *callbacks, struct ArrowArrayStream *out,
    theriac_error **error) THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_session_release(theriac_session *session) THERIAC_NOEXCEPT;

/* ---- Merging --------------------------------------------------------------------------------- */

/* Merges models into one as a recipe says, a YAML document of mergekit's form (docs/merging.md), and
 * writes a model folder; needs neither LibTorch nor memory for whole models. Options (schema
 * "merge"): {"output": DIR, "dry_run": false, "accumulate": "float32" | "native", "memory_limit": 0,
 * "resume": false, "overwrite": false, ...}. `out` receives a JSON report. The context gives threads
 * and seed; the bytes written do not depend on the threads. Nothing stands under the output's name
 * before all of it is complete; after a cancel or a crash the same call with "resume" goes on, and so
 * does one with an empty recipe and no other options than "output" and "resume". */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_merge_recipe(
    const theriac_context *context, const char *recipe, size_t recipe_length,
    const char *options_json, size_t options_length, const theriac_callbacks *callbacks,
    theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* Says what fine-tuning did to several models of one base: sizes of the task vectors, cosines, sign
 * conflicts, overlap of the largest changes, singular task interference and subspace alignment; by
 * tensor, by layer and as a whole, in bounded memory. Options (schema "merge.inspect"): {"base": DIR,
 * "models": [DIR, ...], "density": 0.2, "rank": 0, "spectral_limit": 256, "page": FILE.html (also
 * written as one self-contained page), ...}. `out` receives a JSON report (docs/merging.md). */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_merge_inspect(const theriac_context *context, const char *options_json,
                      size_t options_length, const theriac_callbacks *callbacks,
                      theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* Varies numbers of a recipe by CMA-ES: merges each candidate into a temporary folder, has it scored,
 * removes it, and merges the best one into the output. Options (schema "merge.search"): {"output": DIR,
 * "leaves": ["models[*].parameters.weight=0:1", ...], "evaluations": 100, "minimize": false, "resume":
 * false, "merge": {as theriac_merge_recipe}, ...}. The context's seed decides the candidates. `out`
 * receives a JSON report. Scores and the best recipe are kept beside the output (docs/merging.md): after
 * a cancel or a failure the error's details name the recipe ("best"), and the same call with "resume"
 * repeats no evaluation. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_merge_search(const theriac_context *context, const char *recipe, size_t recipe_length,
                     const char *options_json, size_t options_length,
                     const theriac_evaluator *evaluator, const theriac_callbacks *callbacks,
                     theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* A greedy soup: scores every model alone, then averages them in that order, keeping each one that does
 * not make the score worse, and merges the result into the output. Options (schema "merge.soup"):
 * {"output": DIR, "models": [DIR, ...], "minimize": false, "resume": false, "merge": {...}, ...}. Else as
 * theriac_merge_search. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_merge_soup(const theriac_context *context, const char *options_json, size_t options_length,
                   const theriac_evaluator *evaluator, const theriac_callbacks *callbacks,
                   theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* ---- Mergers: models added one by one -------------------------------------------------------- */

/* A merge without a recipe's text. `method`: as in a recipe ("linear", "ties", ...). Options (schema
 * "merger"): {"base_model": DIR, "parameters": {"lambda": 0.5, ...}, "dtype": "", "out_dtype": ""}.
 * Relative paths start from the process's own folder. Needs no engine. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_merger_create(const theriac_context *context, const char *method, size_t method_length,
                      const char *options_json, size_t options_length, theriac_merger **out,
                      theriac_error **error) THERIAC_NOEXCEPT;

/* Adds a model's folder or file. Parameters: of this model, {"weight": 0.5, "density": ...}, values as
 * in a recipe; NULL for none. The weights are not read yet, whatever the method: the path is remembered
 * with a fingerprint (tensors, sizes and times of files), and finishing refuses a model that changed.
 * Exclusive. A failed call leaves the merger as it was. (Adding a theriac_model may come as a function
 * of its own.) */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_merger_add(
    theriac_merger *merger, const char *path, size_t path_length, const char *parameters_json,
    size_t parameters_length, theriac_error **error) THERIAC_NOEXCEPT;

/* JSON: method, base, parameters, models with fingerprints, whether they are enough ("complete"), and
 * the recipe that finishing carries out. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_merger_info(
    const theriac_merger *merger, theriac_bytes **out, theriac_error **error) THERIAC_NOEXCEPT;

/* Merges what was added into a model folder, in a stream. Options: schema "merge", without "output",
 * "dry_run", "name", "working_folder" and "strict". `out` receives the report of theriac_merge_recipe. The
 * merger stays as it is: more models can be added, and finishing again into another folder gives the next
 * state. THERIAC_INVALID_STATE without models, or with one that changed since it was added. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_merger_finish(
    const theriac_merger *merger, const char *path, size_t path_length, const char *options_json,
    size_t options_length, const theriac_callbacks *callbacks, theriac_bytes **out,
    theriac_error **error) THERIAC_NOEXCEPT;

/* Writes a JSON file that theriac_merger_load reads back, whole or not at all. It holds paths and
 * fingerprints, not weights. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_merger_save(const theriac_merger *merger, const char *path, size_t path_length,
                    int32_t overwrite, theriac_error **error) THERIAC_NOEXCEPT;
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_merger_load(const theriac_context *context, const char *path, size_t path_length,
                    theriac_merger **out, theriac_error **error) THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_merger_release(theriac_merger *merger) THERIAC_NOEXCEPT;

/* ---- Augmenters ------------------------------------------------------------------------------ */

/* Copies of a history of item ids, whose predictions are averaged (test-time augmentation; operators of
 * arXiv 2504.04843 and of CoSeRec, arXiv 2108.06479). Options (schema "augmenter"): {"op": "tmask_r",
 * "ratio": 0.5, "copies": 10, ...}; "seed" is the context's where it is not given. Ids are 1 to `items`;
 * 0 where that is not known. "substitute" and "insert" need `similar`, a table [items, similar_width] of
 * the most similar items of each, best first, 0 where there are fewer; it is copied. Without one
 * (similar_width 0) option "similar" says which table of a session's model to take. Needs no engine. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL theriac_augmenter_create(
    const theriac_context *context, const char *options_json, size_t options_length, int32_t items,
    const int32_t *similar, uint64_t similar_width, theriac_augmenter **out,
    theriac_error **error) THERIAC_NOEXCEPT;

/* The copies of one history, oldest item first. They depend on options, history and *key alone; without
 * `key` (NULL) the history is its own. Copy c is id[offset[c]] ... id[offset[c + 1] - 1] with weight[c];
 * the weights sum to 1. `offset` has room for copy_capacity + 1, `weight` for copy_capacity, `id` for
 * id_capacity. `copies` and `ids` receive how many there are; where they do not fit, nothing else is
 * written and the status is THERIAC_INVALID_ARGUMENT. THERIAC_UNSUPPORTED by augmenters whose copies are
 * more than ids ("tnoise", "mask_as" other than "id", "shift"): sessions carry those out. Any number of
 * threads at once. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_augmenter_apply(const theriac_augmenter *augmenter, const int32_t *history, uint64_t length,
                        const uint64_t *key, uint64_t copy_capacity, uint64_t *offset,
                        double *weight, uint64_t id_capacity, int32_t *id, uint64_t *copies,
                        uint64_t *ids, theriac_error **error) THERIAC_NOEXCEPT;

/* JSON: the options in effect. */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_augmenter_info(const theriac_augmenter *augmenter, theriac_bytes **out,
                       theriac_error **error) THERIAC_NOEXCEPT;
THERIAC_API theriac_augmenter *THERIAC_CALL theriac_augmenter_retain(theriac_augmenter *augmenter)
    THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_augmenter_release(theriac_augmenter *augmenter)
    THERIAC_NOEXCEPT;

/* ---- Results --------------------------------------------------------------------------------- */

/* The report; lives as long as the result. */
THERIAC_API const char *THERIAC_CALL theriac_result_json(const theriac_result *result)
    THERIAC_NOEXCEPT;
/* The report's metrics as an Arrow stream: metric (text), value (double), std, low, high (double,
 * null without bootstrap). */
THERIAC_API THERIAC_MUST_USE theriac_status THERIAC_CALL
theriac_result_table(const theriac_result *result, struct ArrowArrayStream *stream,
                     theriac_error **error) THERIAC_NOEXCEPT;
THERIAC_API void THERIAC_CALL theriac_result_release(theriac_result *result) THERIAC_NOEXCEPT;

#if defined(__cplusplus)
}
#endif

#endif /* THERIAC_THERIAC_H_ */
