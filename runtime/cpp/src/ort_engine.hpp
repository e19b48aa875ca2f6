// A network in ONNX Runtime.
#pragma once

#include "engine.hpp"

namespace edgemtl::core {

/// Load a bundle's network; throws Failure.
std::unique_ptr<Engine> open_ort_engine(const Bundle &bundle, const EngineOptions &options);

}  // namespace edgemtl::core
