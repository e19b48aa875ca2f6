// TensorRT 10 and later: a plan is loaded, no parser and no builder is needed. A plan is code of whoever wrote it: it
// is the user's own, of this machine, and no part of a bundle.
#include "tensorrt_engine.hpp"

#include <NvInferRuntime.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "failure.hpp"
#include "text.hpp"

namespace edgemtl::core {
namespace {

Failure failure(const std::string &line) { return {EDGEMTL_ERROR_ENGINE, line}; }

void check(cudaError_t status, const char *what) {
    if (status != cudaSuccess) throw failure(std::string(what) + ": CUDA says " + cudaGetErrorString(status));
}

/// Keeps the last error that TensorRT tells.
class Log : public nvinfer1::ILogger {
  public:
    void log(Severity severity, const char *text) noexcept override {
        if (severity != Severity::kERROR && severity != Severity::kINTERNAL_ERROR) return;
        try {
            last = text;
        } catch (...) {
            last.clear();
        }
    }
    std::string last;
};

Output::Type type_of(nvinfer1::DataType type) {
    switch (type) {
        case nvinfer1::DataType::kFLOAT: return Output::Type::float32;
        case nvinfer1::DataType::kHALF: return Output::Type::float16;
        case nvinfer1::DataType::kUINT8: return Output::Type::uint8;
        case nvinfer1::DataType::kINT64: return Output::Type::int64;
        default: return Output::Type::other;
    }
}

std::size_t bytes_of(Output::Type type, const std::string &name) {
    switch (type) {
        case Output::Type::float32: return 4;
        case Output::Type::float16: return 2;
        case Output::Type::uint8: return 1;
        case Output::Type::int64: return 8;
        default: throw failure("output " + name + " has a type that no bundle has; build the plan again");
    }
}

class Stream {
  public:
    Stream() { check(cudaStreamCreate(&stream), "no stream"); }
    ~Stream() { cudaStreamDestroy(stream); }
    Stream(const Stream &) = delete;
    Stream &operator=(const Stream &) = delete;
    cudaStream_t stream = nullptr;
};

class DeviceMemory {
  public:
    explicit DeviceMemory(std::size_t size) : size(size) { check(cudaMalloc(&data, size), "no memory on the GPU"); }
    ~DeviceMemory() { cudaFree(data); }
    DeviceMemory(const DeviceMemory &) = delete;
    DeviceMemory &operator=(const DeviceMemory &) = delete;
    void *data = nullptr;
    const std::size_t size;
};

/// Outputs in memory of their own.
struct HostOutputs : Outputs {
    std::vector<std::vector<std::uint8_t>> memory;
};

class TensorRtEngine : public Engine {
  public:
    TensorRtEngine(const Bundle &bundle, const EngineOptions &options);
    std::unique_ptr<Outputs> run(const std::vector<std::vector<std::uint8_t>> &inputs) override;

  private:
    struct Binding {
        Signature signature;
        std::unique_ptr<DeviceMemory> memory;
    };
    void load(const std::string &file);
    Signature signature(const char *name) const;
    void bind(const Manifest &manifest);
    Binding binding(const std::string &name);

    Log log;  // outlives what logs to it
    Stream stream;
    std::unique_ptr<nvinfer1::IRuntime> runtime;
    std::unique_ptr<nvinfer1::ICudaEngine> engine;
    std::unique_ptr<nvinfer1::IExecutionContext> context;
    std::vector<Binding> inputs, outputs;  // inputs in the manifest's order
};

TensorRtEngine::TensorRtEngine(const Bundle &bundle, const EngineOptions &options) {
    load(options.plan);
    std::vector<Signature> taken, given;
    for (int i = 0; i < engine->getNbIOTensors(); ++i) {
        const char *name = engine->getIOTensorName(i);
        const bool is_input = engine->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        (is_input ? taken : given).push_back(signature(name));
    }
    try {
        check_signatures(bundle.manifest, taken, given);
    } catch (const BundleFailure &other) {
        throw failure(options.plan + ": is no plan of this bundle: " + other.what());
    }
    bind(bundle.manifest);
}

void TensorRtEngine::load(const std::string &file) {
    const std::string again =
        "; write it here with `edgemtl-runtime build BUNDLE --backend tensorrt --engine-out " + file + "`";
    std::ifstream stream(file, std::ios::binary);
    if (!stream) throw failure(file + ": cannot be opened" + again);
    const std::string plan{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    runtime.reset(nvinfer1::createInferRuntime(log));
    if (!runtime) throw failure("TensorRT does not start here: " + log.last);
    engine.reset(runtime->deserializeCudaEngine(plan.data(), plan.size()));
    if (!engine) throw failure(file + ": TensorRT cannot load it: " + log.last + again);
    context.reset(engine->createExecutionContext());
    if (!context) throw failure(file + ": TensorRT cannot run it: " + log.last);
}

Signature TensorRtEngine::signature(const char *name) const {
    const auto shape = engine->getTensorShape(name);
    const auto sizes = std::max(shape.nbDims, 0);
    return {name, type_of(engine->getTensorDataType(name)), {shape.d, shape.d + sizes}};
}

void TensorRtEngine::bind(const Manifest &manifest) {
    for (const Input &input : manifest.inputs) {
        const std::int64_t sizes[] = {1, input.height, input.width, input.channels};
        nvinfer1::Dims shape{};
        shape.nbDims = 4;
        for (int i = 0; i < 4; ++i) shape.d[i] = static_cast<std::decay_t<decltype(shape.d[0])>>(sizes[i]);
        if (!context->setInputShape(input.name.c_str(), shape))
            throw failure("TensorRT takes no image of input " + input.name + ": " + log.last);
        inputs.push_back(binding(input.name));
    }
    for (const Head &head : manifest.heads) outputs.push_back(binding(head.name));
    for (int i = 0; i < engine->getNbIOTensors(); ++i) {
        const std::string name = engine->getIOTensorName(i);
        const auto is_it = [&](const Binding &one) { return one.signature.name == name; };
        if (std::none_of(inputs.begin(), inputs.end(), is_it) && std::none_of(outputs.begin(), outputs.end(), is_it))
            outputs.push_back(binding(name));  // TensorRT writes every output, wanted or not
    }
}

TensorRtEngine::Binding TensorRtEngine::binding(const std::string &name) {
    Signature one = signature(name.c_str());
    const auto shape = context->getTensorShape(name.c_str());
    one.shape.assign(shape.d, shape.d + std::max(shape.nbDims, 0));
    std::size_t size = bytes_of(one.type, name);
    for (const std::int64_t side : one.shape) {
        if (side < 1)
            throw failure("the size of " + name + " is not known before it is computed; build the plan again");
        size *= static_cast<std::size_t>(side);
    }
    auto memory = std::make_unique<DeviceMemory>(size);
    if (!context->setTensorAddress(name.c_str(), memory->data))
        throw failure("TensorRT takes no memory for " + name + ": " + log.last);
    return {std::move(one), std::move(memory)};
}

std::unique_ptr<Outputs> TensorRtEngine::run(const std::vector<std::vector<std::uint8_t>> &images) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
        check(cudaMemcpyAsync(inputs[i].memory->data, images[i].data(), inputs[i].memory->size, cudaMemcpyHostToDevice,
                              stream.stream),
              "an image does not reach the GPU");
    if (!context->enqueueV3(stream.stream)) throw failure("TensorRT fails in the network: " + log.last);
    auto results = std::make_unique<HostOutputs>();
    for (const Binding &output : outputs) {
        auto &bytes = results->memory.emplace_back(output.memory->size);
        check(cudaMemcpyAsync(bytes.data(), output.memory->data, bytes.size(), cudaMemcpyDeviceToHost, stream.stream),
              "an output does not leave the GPU");
        const auto &shape = output.signature.shape;
        std::vector<std::int64_t> without_batch(shape.begin() + (shape.empty() ? 0 : 1), shape.end());
        results->by_name[output.signature.name] = {output.signature.type, std::move(without_batch), bytes.data()};
    }
    check(cudaStreamSynchronize(stream.stream), "the GPU does not finish");
    return results;
}

}  // namespace

std::unique_ptr<Engine> open_tensorrt_engine(const Bundle &bundle, const EngineOptions &options) {
    return std::make_unique<TensorRtEngine>(bundle, options);
}

}  // namespace edgemtl::core
