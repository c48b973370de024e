// constraint_file.h - a constraint of the command line, whose schema may be in a file.
#ifndef CONSTRAINT_FILE_H
#define CONSTRAINT_FILE_H

#include "base/buffer.h"
#include "base/error.h"
#include "text/constraint_guide.h"

// Replaces the name of a schema's file by its contents, which *file keeps, and the constraint's name
// by that of the file. Error: what read_file says, or ERROR_INPUT if the file has a NUL.
bool constraint_load(ConstraintSpec *spec, Buffer *file, Error *err);

// Sets *err to why the constraint could not be compiled, and returns false. ERROR_INPUT becomes
// ERROR_USAGE unless the constraint is from a file, as read by constraint_load.
bool constraint_refused(const ConstraintSpec *spec, const Buffer *file, const Error *why,
                        Error *err);

// Compiles a constraint only to see whether that fails. Errors: as constraint_refused.
bool constraint_compiles(const ConstraintSpec *spec, const Buffer *file, Error *err);

#endif
