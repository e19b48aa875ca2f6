// In place of tensorrt_engine.cpp where TensorRT's headers are not.
#include "failure.hpp"
#include "tensorrt_engine.hpp"

namespace edgemtl::core {

std::unique_ptr<Engine> open_tensorrt_engine(const Bundle &, const EngineOptions &options) {
    throw Failure(EDGEMTL_ERROR_ENGINE, options.plan +
                                            ": this library was built without TensorRT; leave out the plan, or " +
                                            "build the library where TensorRT's and CUDA's headers are");
}

}  // namespace edgemtl::core
