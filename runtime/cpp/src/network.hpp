// An opened bundle that runs: cameras' images to results of every head.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "engine.hpp"

namespace edgemtl::core {

struct Result {
    std::string camera;
    int height = 0, width = 0;  // of that camera's image
    std::int64_t camera_stamp_ns = 0, stamp_ns = 0, skew_ns = 0;
    std::map<std::string, HeadResult> heads;
};

/// Any thread may use it; runs wait for one another.
class Network {
  public:
    Network(const std::string &folder, const std::string &precision, const EngineOptions &options);

    Result run(const edgemtl_image *images, std::size_t count);
    /// Of a head, or of one of its classes; throws Failure.
    void set_threshold(const std::string &head, const char *class_name, float threshold);

    const Manifest &manifest() const { return bundle.manifest; }
    /// The names of a head's classes, as C has them.
    const std::vector<const char *> &class_names(std::size_t head) const { return classes[head]; }

  private:
    std::vector<const edgemtl_image *> ordered(const edgemtl_image *images, std::size_t count) const;

    Bundle bundle;
    std::unique_ptr<Engine> engine;
    std::vector<std::vector<const char *>> classes;
    std::mutex lock;  // of what follows, and of the engine
    std::map<std::string, std::vector<float>> thresholds;
};

}  // namespace edgemtl::core
