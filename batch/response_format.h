// response_format.h - the two fields of a request that say in several members what its answer has to
// be: OpenAI's response_format and vLLM's structured_outputs.
#ifndef RESPONSE_FORMAT_H
#define RESPONSE_FORMAT_H

#include "base/error.h"
#include "base/json.h"
#include "generate.h"

// Set the constraint of *g, which then points into the value. Errors: ERROR_INPUT naming the member
// that is missing, unknown or has an unexpected value, or a second constraint.

// {"type": "text"}, {"type": "json_object"} or {"type": "json_schema", "json_schema": {"schema": ..}}.
// A text is free, whatever the command line says.
bool read_response_format(GenerateOptions *g, const JsonValue *v, Error *err);

// {"json": ..}, {"regex": ..}, {"choice": [..]} or {"json_object": true}.
bool read_structured_outputs(GenerateOptions *g, const JsonValue *v, Error *err);

#endif
