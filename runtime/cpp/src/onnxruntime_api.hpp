// ONNX Runtime's C functions by their places in its table, which only grows: no header of it is needed to build this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace edgemtl::core::ort {

struct Status;
struct Env;
struct Session;
struct SessionOptions;
struct MemoryInfo;
struct Allocator;
struct Value;
struct TypeInfo;
struct TensorInfo;
struct CudaOptions;
struct TensorRtOptions;

enum ElementType : int { FLOAT = 1, UINT8 = 2, INT64 = 7, FLOAT16 = 10, DOUBLE = 11 };

/// The functions of one loaded library, and its environment, which lives as long as the process.
class Api {
  public:
    /// The library of a file; "" is $EDGEMTL_ONNXRUNTIME, then the system's. Loaded once; throws Failure.
    static const Api &load(const std::string &file);

    /// Throw Failure with a line that begins with `what`, where a call did not succeed; its status is freed.
    void check(Status *status, const std::string &what) const;

    std::string version;
    Env *env = nullptr;
    Allocator *allocator = nullptr;
    MemoryInfo *memory = nullptr;

    template <class Result, class... Args>
    using Function = Result (*)(Args...) noexcept;
    Function<const char *, const Status *> GetErrorMessage;
    Function<void, Status *> ReleaseStatus;
    Function<Status *, int, const char *, Env **> CreateEnv;
    Function<Status *, const Env *, const void *, std::size_t, const SessionOptions *, Session **>
        CreateSessionFromArray;
    Function<Status *, Session *, const void *, const char *const *, const Value *const *, std::size_t,
             const char *const *, std::size_t, Value **>
        Run;
    Function<Status *, SessionOptions **> CreateSessionOptions;
    Function<Status *, SessionOptions *, int> SetIntraOpNumThreads, SetInterOpNumThreads;
    Function<Status *, const Session *, std::size_t *> SessionGetInputCount, SessionGetOutputCount;
    Function<Status *, const Session *, std::size_t, TypeInfo **> SessionGetInputTypeInfo, SessionGetOutputTypeInfo;
    Function<Status *, const Session *, std::size_t, Allocator *, char **> SessionGetInputName, SessionGetOutputName;
    Function<Status *, const MemoryInfo *, void *, std::size_t, const std::int64_t *, std::size_t, int, Value **>
        CreateTensorWithDataAsOrtValue;
    Function<Status *, Value *, void **> GetTensorMutableData;
    Function<Status *, const TypeInfo *, const TensorInfo **> CastTypeInfoToTensorInfo;
    Function<Status *, const TensorInfo *, int *> GetTensorElementType;
    Function<Status *, const TensorInfo *, std::size_t *> GetDimensionsCount;
    Function<Status *, const TensorInfo *, std::int64_t *, std::size_t> GetDimensions;
    Function<Status *, const Value *, TensorInfo **> GetTensorTypeAndShape;
    Function<Status *, int, int, MemoryInfo **> CreateCpuMemoryInfo;
    Function<Status *, Allocator *, void *> AllocatorFree;
    Function<Status *, Allocator **> GetAllocatorWithDefaultOptions;
    Function<void, Session *> ReleaseSession;
    Function<void, Value *> ReleaseValue;
    Function<void, TypeInfo *> ReleaseTypeInfo;
    Function<void, TensorInfo *> ReleaseTensorTypeAndShapeInfo;
    Function<void, SessionOptions *> ReleaseSessionOptions;
    Function<Status *, SessionOptions *, const TensorRtOptions *> AppendTensorRt;
    Function<Status *, TensorRtOptions **> CreateTensorRtOptions;
    Function<void, TensorRtOptions *> ReleaseTensorRtOptions;
    Function<Status *, SessionOptions *, const CudaOptions *> AppendCuda;
    Function<Status *, CudaOptions **> CreateCudaOptions;
    Function<void, CudaOptions *> ReleaseCudaOptions;

  private:
    explicit Api(const std::string &file);
};

}  // namespace edgemtl::core::ort
