// The network's raw outputs to results in camera pixels (`edgemtl_runtime/decode.py`).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "edgemtl/edgemtl.h"
#include "letterbox.hpp"
#include "manifest.hpp"

namespace edgemtl::core {

/// One output of a network, without its batch axis.
struct Output {
    enum class Type { float16, float32, float64, uint8, int64, other };

    Type type = Type::other;
    std::vector<std::int64_t> shape;
    const void *data = nullptr;

    std::size_t size() const;
    double at(std::size_t index) const;  // of floating point
};

struct HeadResult {
    edgemtl_kind kind = EDGEMTL_TENSOR;
    std::vector<edgemtl_box> boxes;
    std::vector<edgemtl_point> points;
    std::vector<std::uint8_t> values;
    edgemtl_element element = EDGEMTL_NONE;
    std::vector<std::int64_t> shape;
    std::vector<float> thresholds;
};

/// The kind of a decoder's results; nothing where there is no such decoder here.
std::optional<edgemtl_kind> kind_of(const std::string &decoder);
/// Whether every class of a head has a threshold, and whether the head has one.
bool has_thresholds(const Head &head);

/// Decode one head; `thresholds` are one for every class, or one. Throws Failure.
HeadResult decode(const Output &output, const Head &head, const Letterbox &letterbox,
                  const std::vector<float> &thresholds);

}  // namespace edgemtl::core
