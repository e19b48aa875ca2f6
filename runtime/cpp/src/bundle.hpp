// A bundle: a folder with a manifest and networks, every byte verified before it is used (`edgemtl_runtime/bundle.py`).
#pragma once

#include <string>

#include "manifest.hpp"

namespace edgemtl::core {

struct Bundle {
    Manifest manifest;
    std::string model_file;  // of the precision that was asked for
    std::string model;       // its bytes, those that were verified
};

/// Open a bundle, verify every file, and read the network of a precision; throws BundleFailure.
Bundle open_bundle(const std::string &folder, const std::string &precision);

}  // namespace edgemtl::core
