// calibrate.h - how much each column of a model's matrices matters: by running a text through it.
#ifndef CALIBRATE_H
#define CALIBRATE_H

#include "cli/output.h"
#include "engine.h"
#include "formats/quantize.h"
#include "options.h"

typedef struct Calibration Calibration;

// Opens the model and its cache, runs the text of --calibrate through it, or without that some random
// tokens, and records what the matrices of the blocks read. With a text, errors are compensated too
// (GPTQ). Errors: ERROR_INPUT if the text cannot be read or encoded, or the model computes a value
// that is not finite; ERROR_RUN if out of memory. On failure *out is NULL.
bool calibrate(Calibration **out, Engine *e, const Options *o, Output *output, Error *err);
void calibration_free(Calibration *c);

// How the error of a matrix is measured; NULL for embedding and lm_head, which get no compensation
// and whose columns are alike. The result lasts until the next call. `arg` is the Calibration.
const ErrorMeasure *calibration_measure(void *arg, const char *name);

#endif
