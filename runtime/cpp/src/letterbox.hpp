// Camera image to network input, and results back to camera pixels (`edgemtl_runtime/letterbox.py`).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "edgemtl/edgemtl.h"
#include "manifest.hpp"

namespace edgemtl::core {

/// Pixels (height, width, channels), row by row.
struct Pixels {
    int height = 0, width = 0, channels = 0;
    std::vector<std::uint8_t> data;

    const std::uint8_t *row(int y) const { return data.data() + static_cast<std::size_t>(y) * width * channels; }
    std::uint8_t *row(int y) { return data.data() + static_cast<std::size_t>(y) * width * channels; }
};

/// Letterbox from one camera size to one network size: uniform scale, aligned top left, padding after it.
struct Letterbox {
    Letterbox(int camera_height, int camera_width, int height, int width);

    /// Write an image of the camera's size as the network's input, (height, width, channels).
    void image(const Pixels &image, std::uint8_t blank, std::uint8_t *out) const;
    float x_to_camera(float x) const;
    float y_to_camera(float y) const;

    /// A network map of elements of `bytes` each, (height, width), as (camera_height, camera_width), nearest neighbour.
    std::vector<std::uint8_t> map_to_camera(const std::uint8_t *map, std::size_t bytes) const;

    int camera_height, camera_width, height, width;
    double scale;
    int scaled_height, scaled_width;
};

/// An image as its input's modality has it: colour of three channels, anything else of one, 8 bits; throws Failure.
Pixels as_modality(const edgemtl_image &image, const Input &input);

/// Resize by pixel areas where it gets smaller, else linearly; to the bit what OpenCV gives Python's runtime.
Pixels resized(const Pixels &image, int height, int width);

}  // namespace edgemtl::core
