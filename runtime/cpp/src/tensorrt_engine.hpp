// A network in TensorRT itself, where the library was built with it.
#pragma once

#include "engine.hpp"

namespace edgemtl::core {

/// Load a plan that `edgemtl-runtime build` wrote of this bundle; throws Failure.
std::unique_ptr<Engine> open_tensorrt_engine(const Bundle &bundle, const EngineOptions &options);

}  // namespace edgemtl::core
