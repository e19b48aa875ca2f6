// What computes a bundle's network: images in, outputs of every head out.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "decode.hpp"
#include "manifest.hpp"

namespace edgemtl::core {

/// Outputs of one run by name; their data live as long as this.
struct Outputs {
    virtual ~Outputs() = default;
    std::map<std::string, Output> by_name;
};

struct EngineOptions {
    std::string provider = "cpu", library;
    std::string plan;  // a file of TensorRT; "": ONNX Runtime computes
    int threads = 0;   // 0: all usable cores but one
};

class Engine {
  public:
    virtual ~Engine() = default;

    /// Run on inputs (1, height, width, channels), in the manifest's order.
    virtual std::unique_ptr<Outputs> run(const std::vector<std::vector<std::uint8_t>> &inputs) = 0;
};

/// The engine that the options ask for; throws Failure. Its network is the one that the manifest describes.
std::unique_ptr<Engine> open_engine(const Bundle &bundle, const EngineOptions &options);

/// A named input or output of a network, with the batch axis; sizes below 0 are dynamic.
struct Signature {
    std::string name;
    Output::Type type = Output::Type::other;
    std::vector<std::int64_t> shape;
};

/// Throw BundleFailure where a network's inputs and outputs are not those that the manifest describes.
void check_signatures(const Manifest &manifest, const std::vector<Signature> &inputs,
                      const std::vector<Signature> &outputs);

}  // namespace edgemtl::core
