// A stand-in of TensorRT 10 for tests without it: the names and signatures that tensorrt_engine.cpp uses. A plan is
// text here, a line for each input and output: `input NAME TYPE SIZES…`, `output NAME TYPE SIZES…`. Every output
// is the last byte of the first input, bytes are 1.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace nvinfer1 {

enum class DataType : std::int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBOOL = 4, kUINT8 = 5, kINT64 = 8 };
enum class TensorIOMode : std::int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };

struct Dims {
    std::int32_t nbDims;
    std::int64_t d[8];
};

class ILogger {
  public:
    enum class Severity : std::int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, const char *text) noexcept = 0;
    virtual ~ILogger() = default;
};

struct Tensor {
    std::string name;
    TensorIOMode mode = TensorIOMode::kNONE;
    DataType type = DataType::kFLOAT;
    Dims shape{};
    std::size_t count() const {
        std::size_t all = 1;
        for (int i = 0; i < shape.nbDims; ++i) all *= static_cast<std::size_t>(shape.d[i]);
        return all;
    }
};

class IExecutionContext {
  public:
    explicit IExecutionContext(std::vector<Tensor> tensors) : tensors(std::move(tensors)) {}
    virtual ~IExecutionContext() = default;
    bool setInputShape(const char *name, const Dims &shape) noexcept {
        for (Tensor &one : tensors)
            if (one.mode == TensorIOMode::kINPUT && one.name == name) one.shape = shape;
        for (Tensor &one : tensors)
            if (one.shape.d[0] < 0) one.shape.d[0] = 1;
        return true;
    }
    Dims getTensorShape(const char *name) const noexcept {
        for (const Tensor &one : tensors)
            if (one.name == name) return one.shape;
        return {-1, {}};
    }
    bool setTensorAddress(const char *name, void *data) noexcept {
        addresses[name] = data;
        return true;
    }
    bool enqueueV3(cudaStream_t) noexcept {
        std::uint8_t last = 0;
        for (auto one = tensors.rbegin(); one != tensors.rend(); ++one)
            if (one->mode == TensorIOMode::kINPUT)
                last = static_cast<std::uint8_t *>(addresses[one->name])[one->count() - 1];
        for (const Tensor &one : tensors)
            for (std::size_t i = 0; one.mode == TensorIOMode::kOUTPUT && i < one.count(); ++i) {
                if (one.type == DataType::kFLOAT)
                    static_cast<float *>(addresses[one.name])[i] = static_cast<float>(last);
                else
                    static_cast<std::uint8_t *>(addresses[one.name])[i] = 1;
            }
        return true;
    }

  private:
    std::vector<Tensor> tensors;
    std::map<std::string, void *> addresses;
};

class ICudaEngine {
  public:
    explicit ICudaEngine(std::vector<Tensor> tensors) : tensors(std::move(tensors)) {}
    virtual ~ICudaEngine() = default;
    std::int32_t getNbIOTensors() const noexcept { return static_cast<std::int32_t>(tensors.size()); }
    const char *getIOTensorName(std::int32_t index) const noexcept { return tensors[index].name.c_str(); }
    TensorIOMode getTensorIOMode(const char *name) const noexcept { return of(name).mode; }
    DataType getTensorDataType(const char *name) const noexcept { return of(name).type; }
    Dims getTensorShape(const char *name) const noexcept { return of(name).shape; }
    IExecutionContext *createExecutionContext() noexcept { return new IExecutionContext(tensors); }

  private:
    const Tensor &of(const std::string &name) const {
        for (const Tensor &one : tensors)
            if (one.name == name) return one;
        return tensors.front();
    }
    std::vector<Tensor> tensors;
};

class IRuntime {
  public:
    explicit IRuntime(ILogger &logger) : logger(logger) {}
    virtual ~IRuntime() = default;
    ICudaEngine *deserializeCudaEngine(const void *data, std::size_t size) noexcept {
        std::istringstream lines(std::string(static_cast<const char *>(data), size));
        std::vector<Tensor> tensors;
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words(line);
            std::string mode, type;
            Tensor one;
            words >> mode >> one.name >> type;
            if (mode != "input" && mode != "output") {
                logger.log(ILogger::Severity::kERROR, "Serialization assertion failed: magic tag does not match");
                return nullptr;
            }
            one.mode = mode == "input" ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
            one.type = type == "uint8" ? DataType::kUINT8 : type == "int32" ? DataType::kINT32 : DataType::kFLOAT;
            while (words >> one.shape.d[one.shape.nbDims]) ++one.shape.nbDims;
            tensors.push_back(one);
        }
        return new ICudaEngine(std::move(tensors));
    }

  private:
    ILogger &logger;
};

inline IRuntime *createInferRuntime(ILogger &logger) noexcept { return new IRuntime(logger); }

}  // namespace nvinfer1
