#include "onnxruntime_api.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "failure.hpp"

namespace edgemtl::core::ort {
namespace {

constexpr std::uint32_t API_VERSION = 17;  // the oldest that has every function that is called here
constexpr int LOG_ERRORS = 3, ARENA = 1, DEFAULT_MEMORY = 0;

struct ApiBase {
    const void *const *(*GetApi)(std::uint32_t) noexcept;
    const char *(*GetVersionString)() noexcept;
};

struct Opened {
    void *library;
    std::string name;
};

Opened opened(const std::string &file) {
    std::vector<std::string> names{file};
    if (file.empty()) {
        const char *named = std::getenv("EDGEMTL_ONNXRUNTIME");
        names = named && *named ? std::vector<std::string>{named}
                                : std::vector<std::string>{"libonnxruntime.so.1", "libonnxruntime.so"};
    }
    for (const std::string &name : names)
        if (void *library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return {library, name};
    const char *error = dlerror();
    throw Failure(EDGEMTL_ERROR_ENGINE,
                  "no ONNX Runtime here (" + std::string(error ? error : names.back()) +
                      "); name its libonnxruntime.so in EDGEMTL_ONNXRUNTIME: its releases have it in lib/, pip's "
                      "onnxruntime in onnxruntime/capi/");
}

template <class F>
void take(F &function, const void *const *table, std::size_t place) {
    function = reinterpret_cast<F>(const_cast<void *>(table[place]));
}

}  // namespace

Api::Api(const std::string &file) {
    const auto [library, name] = opened(file);
    const auto base_of = reinterpret_cast<const ApiBase *(*)()>(dlsym(library, "OrtGetApiBase"));
    if (!base_of) throw Failure(EDGEMTL_ERROR_ENGINE, name + ": is not ONNX Runtime; name its libonnxruntime.so");
    version = base_of()->GetVersionString();
    const void *const *table = base_of()->GetApi(API_VERSION);
    if (!table)
        throw Failure(EDGEMTL_ERROR_ENGINE, "ONNX Runtime " + version + " is older than 1." +
                                                std::to_string(API_VERSION) + "; install a newer one");
    take(GetErrorMessage, table, 2), take(CreateEnv, table, 3), take(CreateSessionFromArray, table, 8);
    take(Run, table, 9), take(CreateSessionOptions, table, 10);
    take(SetIntraOpNumThreads, table, 24), take(SetInterOpNumThreads, table, 25);
    take(SessionGetInputCount, table, 30), take(SessionGetOutputCount, table, 31);
    take(SessionGetInputTypeInfo, table, 33), take(SessionGetOutputTypeInfo, table, 34);
    take(SessionGetInputName, table, 36), take(SessionGetOutputName, table, 37);
    take(CreateTensorWithDataAsOrtValue, table, 49), take(GetTensorMutableData, table, 51);
    take(CastTypeInfoToTensorInfo, table, 55), take(GetTensorElementType, table, 60);
    take(GetDimensionsCount, table, 61), take(GetDimensions, table, 62), take(GetTensorTypeAndShape, table, 65);
    take(CreateCpuMemoryInfo, table, 69), take(AllocatorFree, table, 76),
        take(GetAllocatorWithDefaultOptions, table, 78);
    take(ReleaseStatus, table, 93), take(ReleaseSession, table, 95), take(ReleaseValue, table, 96);
    take(ReleaseTypeInfo, table, 98), take(ReleaseTensorTypeAndShapeInfo, table, 99),
        take(ReleaseSessionOptions, table, 100);
    take(AppendTensorRt, table, 170), take(CreateTensorRtOptions, table, 171), take(ReleaseTensorRtOptions, table, 174);
    take(AppendCuda, table, 204), take(CreateCudaOptions, table, 205), take(ReleaseCudaOptions, table, 208);
    check(CreateEnv(LOG_ERRORS, "edgemtl", &env), "ONNX Runtime does not start");
    check(GetAllocatorWithDefaultOptions(&allocator), "ONNX Runtime does not start");
    check(CreateCpuMemoryInfo(ARENA, DEFAULT_MEMORY, &memory), "ONNX Runtime does not start");
}

const Api &Api::load(const std::string &file) {
    static std::mutex lock;
    static std::map<std::string, std::unique_ptr<Api>> loaded;
    const std::lock_guard<std::mutex> guard(lock);
    std::unique_ptr<Api> &api = loaded[file];
    if (!api) api.reset(new Api(file));
    return *api;
}

void Api::check(Status *status, const std::string &what) const {
    if (!status) return;
    std::string reason = GetErrorMessage(status);
    ReleaseStatus(status);
    for (char &letter : reason)
        if (static_cast<unsigned char>(letter) < 0x20) letter = ' ';
    throw Failure(EDGEMTL_ERROR_ENGINE, what + " (" + reason.substr(0, 250) + ")");
}

}  // namespace edgemtl::core::ort
