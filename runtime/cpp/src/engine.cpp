#include "engine.hpp"

#include <sched.h>

#include <algorithm>
#include <optional>

#include "failure.hpp"
#include "text.hpp"

namespace edgemtl::core {
namespace {

constexpr int MOST_THREADS = 256;
constexpr std::int64_t MOST_BOXES = 10'000, ANY = -1, UP_TO_MOST = -2;

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

std::string shape_text(const std::vector<std::int64_t> &shape) {
    std::vector<std::string> sizes;
    for (const std::int64_t size : shape)
        sizes.push_back(size == UP_TO_MOST ? "'up to " + std::to_string(MOST_BOXES) + "'"
                        : size < 0         ? "'any'"
                                           : std::to_string(size));
    return "[" + joined(sizes, ", ") + "]";
}

/// The sizes that a head's decoder reads, without the batch axis; nothing where any will do.
std::optional<std::vector<std::int64_t>> expected_shape(const Head &head, const Input &input) {
    const auto count = static_cast<std::int64_t>(head.classes.size());
    switch (kind_of(head.decoder).value()) {
        case EDGEMTL_BOXES: return std::vector<std::int64_t>{UP_TO_MOST, 6};
        case EDGEMTL_POINTS: return std::vector<std::int64_t>{UP_TO_MOST, 4};
        case EDGEMTL_NORMAL_MAP: return std::vector<std::int64_t>{input.height, input.width, 3};
        case EDGEMTL_VECTOR_MAP: return std::vector<std::int64_t>{input.height, input.width, count};
        case EDGEMTL_ATTRIBUTES:
        case EDGEMTL_SCALARS: return std::vector<std::int64_t>{count};
        case EDGEMTL_TENSOR: return std::nullopt;
        default: return std::vector<std::int64_t>{input.height, input.width};
    }
}

bool fits(std::int64_t size, std::int64_t expected) {
    return size < 0 || (expected == UP_TO_MOST ? size <= MOST_BOXES : size == expected);
}

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

}  // namespace

Outputs::~Outputs() {
    for (ort::Value *value : values)
        if (value) api.ReleaseValue(value);
}

Engine::Engine(std::string_view model, const std::string &file, const Manifest &manifest, const EngineOptions &options)
    : api(ort::Api::load(options.library)), inputs(manifest.inputs) {
    try {
        open(model, file, options);
        check(manifest);
    } catch (...) {
        if (session) api.ReleaseSession(session);
        throw;
    }
}

Engine::~Engine() { api.ReleaseSession(session); }

void Engine::open(std::string_view model, const std::string &file, const EngineOptions &options) {
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

Engine::Signature Engine::signature(std::size_t index, bool of_input) const {
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
    api.check(api.GetTensorElementType(tensor, &one.type), what);
    api.check(api.GetDimensionsCount(tensor, &dimensions), what);
    one.shape.resize(dimensions);
    if (dimensions) api.check(api.GetDimensions(tensor, one.shape.data(), dimensions), what);
    return one;
}

void Engine::check(const Manifest &manifest) {
    std::size_t input_count = 0, output_count = 0;
    api.check(api.SessionGetInputCount(session, &input_count), "ONNX Runtime does not describe the network");
    api.check(api.SessionGetOutputCount(session, &output_count), "ONNX Runtime does not describe the network");
    bool same = input_count == manifest.inputs.size();
    std::vector<std::string> taken, said;
    for (std::size_t i = 0; i < input_count; ++i) {
        const Signature one = signature(i, true);
        taken.push_back("'" + one.name + "': " + shape_text(one.shape));
        const auto spec = std::find_if(manifest.inputs.begin(), manifest.inputs.end(),
                                       [&](const Input &input) { return input.name == one.name; });
        if (spec == manifest.inputs.end() || one.type != ort::UINT8 || one.shape.size() != 4) {
            same = false;
            continue;
        }
        same = same && (one.shape[0] < 0 || one.shape[0] == 1) && one.shape[1] == spec->height &&
               one.shape[2] == spec->width && one.shape[3] == spec->channels;
    }
    for (const Input &input : manifest.inputs)
        said.push_back("'" + input.name + "': " + shape_text({1, input.height, input.width, input.channels}));
    if (!same)
        throw BundleFailure("the network takes {" + joined(taken, ", ") + "}, the manifest says {" +
                            joined(said, ", ") + "}; export the bundle again");
    std::map<std::string, std::vector<std::int64_t>> outputs;
    for (std::size_t i = 0; i < output_count; ++i) {
        const Signature one = signature(i, false);
        output_names.push_back(one.name);
        outputs[one.name] = one.shape;
    }
    for (const Head &head : manifest.heads) {
        const auto found = outputs.find(head.name);
        if (found == outputs.end())
            throw BundleFailure("the network has no output '" + head.name +
                                "' that the manifest names; export the bundle again");
        if (!kind_of(head.decoder))
            throw BundleFailure(head.name + ": no decoder '" + head.decoder + "' here; update edgemtl-runtime");
        const auto expected = expected_shape(head, manifest.inputs[0]);
        const std::vector<std::int64_t> &shape = found->second;
        if (!expected || shape.empty()) continue;  // an output without a shape is checked when it is decoded
        bool good = shape.size() == expected->size() + 1;
        for (std::size_t i = 0; good && i < expected->size(); ++i) good = fits(shape[i + 1], (*expected)[i]);
        std::vector<std::int64_t> with_batch{1};
        with_batch.insert(with_batch.end(), expected->begin(), expected->end());
        if (!good)
            throw BundleFailure(head.name + " is " + shape_text(shape) + ", the manifest's decoder " + head.decoder +
                                " reads " + shape_text(with_batch) + "; export the bundle again");
    }
}

std::unique_ptr<Outputs> Engine::run(const std::vector<std::vector<std::uint8_t>> &images) {
    const std::string what = "ONNX Runtime fails in the network";
    Outputs given(api);
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
    auto outputs = std::make_unique<Outputs>(api);
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

}  // namespace edgemtl::core
