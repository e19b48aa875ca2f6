// Untrusted ONNX files: an allow list of protobuf fields, within bounds (`edgemtl_runtime/onnx_file.py`).
#pragma once

#include <string>
#include <string_view>

namespace edgemtl::core {

/// Throws BundleFailure, which names the file, unless bytes are an ONNX network that edgemtl's exporter could have
/// written: without other files, functions, foreign operators, or sizes beyond bounds.
void check_onnx(std::string_view data, const std::string &file);

}  // namespace edgemtl::core
