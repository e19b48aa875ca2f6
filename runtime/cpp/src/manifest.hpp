// The description of a bundle: inputs and heads, with the checks of `edgemtl_runtime/bundle.py`.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace edgemtl::core {

constexpr int SCHEMA_VERSION = 4;

struct ThermalRange {
    bool is_percentile = true;
    double low = 1.0, high = 99.0;  // counts, or percentiles of each image
};

struct Input {
    std::string name, modality = "rgb";
    int height = 0, width = 0, channels = 0;
    int blank = 114;  // the value of pixels without data: padding, and the image of a missing camera
    ThermalRange thermal_range;
    bool may_be_missing = false;
};

struct Head {
    std::string name, task, decoder, units;
    std::vector<std::string> classes;
    double threshold = 0.25, nms_iou = 0.7;
};

struct Manifest {
    std::string name, licence;
    std::vector<Input> inputs;
    std::vector<Head> heads;
    std::map<std::string, std::string> files;     // the SHA-256 of each
    std::map<std::string, std::string> rejected;  // precisions that were not accurate enough, and why
};

bool is_plain_name(std::string_view name);

/// Read the bytes of a manifest; `file` is named by what it throws: BundleFailure.
Manifest read_manifest(std::string_view bytes, const std::string &file);

}  // namespace edgemtl::core
