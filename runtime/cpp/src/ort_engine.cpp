#include "ort_engine.hpp"

#include <sched.h>

#include <algorithm>

#include "failure.hpp"
#include "onnxruntime_api.hpp"
#include "text.hpp"

namespace edgemtl::core {
namespace {

constexpr int MOST_THREADS = 256;

int default_threads() {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    const int cores = sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
    return std::max(1, cores - 1);
}

/// Frees what ONNX Runtime gave, whatever happens.
template <class T>
struct Owned {
    Owned(void (*free)(T *) noexcept) : free(free) {}
    ~Owned() {
        if (value) free(value);
    }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    T *value = nullptr;
    void (*free)(T *) noexcept;
};

Output::Type type_of(int element) {
    switch (element) {
        case ort::FLOAT16: return Output::Type::float16;
        case ort::FLOAT: return Output::Type::float32;
        case ort::DOUBLE: return Output::Type::float64;
        case ort::UINT8: return Output::Type::uint8;
        case ort::INT64: return Output::Type::int64;
        default: return Output::Type::other;
    }
}

/// Outputs in ONNX Runtime's memory.
class OrtOutputs : public Outputs {
  public:
    explicit OrtOutputs(const ort::Api &api) : api(api) {}
    ~OrtOutputs() override {
        for (ort::Value *value : values)
            if (value) api.ReleaseValue(value);
    }
    OrtOutputs(const OrtOutputs &) = delete;
    OrtOutputs &operator=(const OrtOutputs &) = delete;

    std::vector<ort::Value *> values;

  private:
    const ort::Api &api;
};

class OrtEngine : public Engine {
  public:
    OrtEngine(const Bundle &bundle, const EngineOptions &options);
    ~OrtEngine() override { api.ReleaseSession(session); }
    OrtEngine(const OrtEngine &) = delete;
    OrtEngine &operator=(const OrtEngine &) = delete;

    std::unique_ptr<Outputs> run(const std::vector<std::vector<std::uint8_t>> &inputs) override;

  private:
    void open(std::string_view model, const std::string &file, const EngineOptions &options);
    Signature signature(std::size_t index, bool of_input) const;
    void check(const Manifest &manifest);

    const ort::Api &api;
    ort::Session *session = nullptr;
    std::vector<Input> inputs;
    std::vector<std::string> output_names;
};

OrtEngine::OrtEngine(const Bundle &bundle, const EngineOptions &options)
    : api(ort::Api::load(options.library)), inputs(bundle.manifest.inputs) {
    try {
        open(bundle.model, bundle.model_file, options);
        check(bundle.manifest);
    } catch (...) {
        if (session) api.ReleaseSession(session);
        throw;
    }
}

void OrtEngine::open(std::string_view model, const std::string &file, const EngineOptions &options) {
    if (options.threads < 0 || options.threads > MOST_THREADS)
        throw Failure(EDGEMTL_ERROR_ENGINE, std::to_string(options.threads) + " threads; give 1 to " +
                                                std::to_string(MOST_THREADS) + ", or 0 for all cores but one");
    Owned<ort::SessionOptions> session_options(api.ReleaseSessionOptions);
    const std::string starts = "ONNX Runtime does not start";
    api.check(api.CreateSessionOptions(&session_options.value), starts);
    api.check(api.SetIntraOpNumThreads(session_options.value, options.threads ? options.threads : default_threads()),
              starts);
    api.check(api.SetInterOpNumThreads(session_options.value, 1), starts);
    if (options.provider == "cuda" || options.provider == "tensorrt") {
        if (options.provider == "tensorrt") {
            Owned<ort::TensorRtOptions> own(api.ReleaseTensorRtOptions);
            api.check(api.CreateTensorRtOptions(&own.value), "TensorRT does not start here");
            api.check(api.AppendTensorRt(session_options.value, own.value), "TensorRT does not start here");
        }
        Owned<ort::CudaOptions> own(api.ReleaseCudaOptions);
        api.check(api.CreateCudaOptions(&own.value), "CUDA does not start here");
        api.check(api.AppendCuda(session_options.value, own.value), "CUDA does not start here");
    } else if (options.provider != "cpu") {
        throw Failure(EDGEMTL_ERROR_ARGUMENT,
                      "no provider " + quoted(options.provider, 40) + "; known are: cpu, cuda, tensorrt");
    }
    try {
        api.check(api.CreateSessionFromArray(api.env, model.data(), model.size(), session_options.value, &session), "");
    } catch (const Failure &failure) {
        throw BundleFailure(file + ": ONNX Runtime " + api.version + " cannot load it" + failure.what() +
                            "; update onnxruntime, or export the bundle again");
    }
}

Signature OrtEngine::signature(std::size_t index, bool of_input) const {
    const std::string what = "ONNX Runtime does not describe the network";
    Signature one;
    char *name = nullptr;
    api.check((of_input ? api.SessionGetInputName : api.SessionGetOutputName)(session, index, api.allocator, &name),
              what);
    one.name = name;
    api.check(api.AllocatorFree(api.allocator, name), what);
    Owned<ort::TypeInfo> info(api.ReleaseTypeInfo);
    api.check((of_input ? api.SessionGetInputTypeInfo : api.SessionGetOutputTypeInfo)(session, index, &info.value),
              what);
    const ort::TensorInfo *tensor = nullptr;  // belongs to the type's
    api.check(api.CastTypeInfoToTensorInfo(info.value, &tensor), what);
    if (!tensor) return one;
    std::size_t dimensions = 0;
    int element = 0;
    api.check(api.GetTensorElementType(tensor, &element), what);
    one.type = type_of(element);
    api.check(api.GetDimensionsCount(tensor, &dimensions), what);
    one.shape.resize(dimensions);
    if (dimensions) api.check(api.GetDimensions(tensor, one.shape.data(), dimensions), what);
    return one;
}

void OrtEngine::check(const Manifest &manifest) {
    const std::string what = "ONNX Runtime does not describe the network";
    std::size_t input_count = 0, output_count = 0;
    api.check(api.SessionGetInputCount(session, &input_count), what);
    api.check(api.SessionGetOutputCount(session, &output_count), what);
    std::vector<Signature> taken, given;
    for (std::size_t i = 0; i < input_count; ++i) taken.push_back(signature(i, true));
    for (std::size_t i = 0; i < output_count; ++i) given.push_back(signature(i, false));
    check_signatures(manifest, taken, given);
    for (const Signature &one : given) output_names.push_back(one.name);
}

std::unique_ptr<Outputs> OrtEngine::run(const std::vector<std::vector<std::uint8_t>> &images) {
    const std::string what = "ONNX Runtime fails in the network";
    OrtOutputs given(api);
    std::vector<const char *> input_names, names;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const std::int64_t shape[] = {1, inputs[i].height, inputs[i].width, inputs[i].channels};
        ort::Value *value = nullptr;
        // ONNX Runtime only reads an input's memory.
        api.check(api.CreateTensorWithDataAsOrtValue(api.memory, const_cast<std::uint8_t *>(images[i].data()),
                                                     images[i].size(), shape, 4, ort::UINT8, &value),
                  what);
        given.values.push_back(value);
        input_names.push_back(inputs[i].name.c_str());
    }
    for (const std::string &name : output_names) names.push_back(name.c_str());
    auto outputs = std::make_unique<OrtOutputs>(api);
    outputs->values.resize(names.size());
    api.check(api.Run(session, nullptr, input_names.data(), given.values.data(), input_names.size(), names.data(),
                      names.size(), outputs->values.data()),
              what);
    for (std::size_t i = 0; i < names.size(); ++i) {
        Owned<ort::TensorInfo> info(api.ReleaseTensorTypeAndShapeInfo);
        api.check(api.GetTensorTypeAndShape(outputs->values[i], &info.value), what);
        std::size_t dimensions = 0;
        int element = 0;
        api.check(api.GetTensorElementType(info.value, &element), what);
        api.check(api.GetDimensionsCount(info.value, &dimensions), what);
        std::vector<std::int64_t> shape(dimensions);
        if (dimensions) api.check(api.GetDimensions(info.value, shape.data(), dimensions), what);
        void *data = nullptr;
        api.check(api.GetTensorMutableData(outputs->values[i], &data), what);
        if (!shape.empty()) shape.erase(shape.begin());  // the batch, of one
        outputs->by_name[names[i]] = {type_of(element), std::move(shape), data};
    }
    return outputs;
}

}  // namespace

std::unique_ptr<Engine> open_ort_engine(const Bundle &bundle, const EngineOptions &options) {
    return std::make_unique<OrtEngine>(bundle, options);
}

}  // namespace edgemtl::core
