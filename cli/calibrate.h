// calibrate.h - how much each column of a model's matrices matters: by running a text through it.
#ifndef CALIBRATE_H
#define CALIBRATE_H

#include "cli/output.h"
#include "engine.h"
#include "formats/quantize.h"
#include "options.h"

typedef struct Calibration Calibration;

// Opens the model and its cache, and prepares to run the text of --calibrate through it, or without
// that some random tokens, while its matrices are quantised. With a text, errors are compensated too
// (GPTQ, then a descent over the values), and memory is needed for up to 16384 * dim floats, the sums
// of products of one block, 3 * dim^2 + hidden_dim^2 floats, and 20 bytes for each element of the
// largest of these sums.
// Errors: ERROR_INPUT if the text cannot be read or encoded; ERROR_RUN if out of memory. On failure
// *out is NULL.
bool calibrate(Calibration **out, Engine *e, const Options *o, Output *output, Error *err);
void calibration_free(Calibration *c);

// The function of a QuantizationGuide, whose arg is the Calibration. Embedding and lm_head get no
// compensation, and their columns are alike. Errors: ERROR_INPUT if the model computes a value that
// is not finite; ERROR_RUN if out of memory.
bool calibration_measure(void *arg, const char *name, ErrorMeasure *out, Error *err);

#endif
