// A failure inside the library: the status and the line that Python's runtime would say. It never leaves the C
// functions.
#pragma once

#include <stdexcept>
#include <string>

#include "edgemtl/edgemtl.h"

namespace edgemtl::core {

struct Failure : std::runtime_error {
    Failure(edgemtl_status status, const std::string &line) : std::runtime_error(line), status(status) {}
    edgemtl_status status;
};

struct BundleFailure : Failure {
    explicit BundleFailure(const std::string &line) : Failure(EDGEMTL_ERROR_BUNDLE, line) {}
};

}  // namespace edgemtl::core
