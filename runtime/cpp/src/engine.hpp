// A bundle's network in ONNX Runtime: images in, outputs of every head out.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "decode.hpp"
#include "manifest.hpp"
#include "onnxruntime_api.hpp"

namespace edgemtl::core {

/// Outputs of one run by name; their data live as long as this.
class Outputs {
  public:
    explicit Outputs(const ort::Api &api) : api(api) {}
    ~Outputs();
    Outputs(const Outputs &) = delete;
    Outputs &operator=(const Outputs &) = delete;

    std::map<std::string, Output> by_name;
    std::vector<ort::Value *> values;

  private:
    const ort::Api &api;
};

struct EngineOptions {
    std::string provider = "cpu", library;
    int threads = 0;  // 0: all usable cores but one
};

class Engine {
  public:
    /// Load a network; `file` is named by what it throws: Failure. It must be the one that the manifest describes.
    Engine(std::string_view model, const std::string &file, const Manifest &manifest, const EngineOptions &options);
    ~Engine();
    Engine(const Engine &) = delete;
    Engine &operator=(const Engine &) = delete;

    /// Run on inputs (1, height, width, channels), in the manifest's order.
    std::unique_ptr<Outputs> run(const std::vector<std::vector<std::uint8_t>> &inputs);

  private:
    struct Signature {
        std::string name;
        int type = 0;
        std::vector<std::int64_t> shape;  // below 0: dynamic
    };
    void open(std::string_view model, const std::string &file, const EngineOptions &options);
    Signature signature(std::size_t index, bool of_input) const;
    void check(const Manifest &manifest);

    const ort::Api &api;
    ort::Session *session = nullptr;
    std::vector<Input> inputs;
    std::vector<std::string> output_names;
};

}  // namespace edgemtl::core
