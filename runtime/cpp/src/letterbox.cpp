#include "letterbox.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace edgemtl::core {
namespace {

int scaled_side(int side, double scale, int most) {
    return std::max(1, std::min(static_cast<int>(std::nearbyint(side * scale)), most));  // halves to even, as Python's
}

/// The source pixels that a destination pixel covers, and how much of each.
struct Weights {
    int first = 0;
    std::vector<float> shares;
};

std::vector<Weights> area_weights(int from, int to) {
    const double ratio = static_cast<double>(from) / to;
    std::vector<Weights> all(to);
    for (int i = 0; i < to; ++i) {
        const double begin = i * ratio, end = std::min((i + 1) * ratio, static_cast<double>(from));
        Weights &weights = all[i];
        weights.first = static_cast<int>(std::floor(begin));
        for (int k = weights.first; k < end && k < from; ++k) {
            const double share = std::min(end, k + 1.0) - std::max(begin, static_cast<double>(k));
            if (share > 1e-3 || k == weights.first) weights.shares.push_back(static_cast<float>(share / (end - begin)));
        }
    }
    return all;
}

std::vector<Weights> linear_weights(int from, int to) {
    const double ratio = static_cast<double>(from) / to;
    std::vector<Weights> all(to);
    for (int i = 0; i < to; ++i) {
        const double centre = std::clamp((i + 0.5) * ratio - 0.5, 0.0, from - 1.0);
        const int first = std::min(static_cast<int>(centre), std::max(from - 2, 0));
        const auto share = static_cast<float>(centre - first);
        all[i] = {first, from > 1 ? std::vector<float>{1 - share, share} : std::vector<float>{1}};
    }
    return all;
}

std::vector<int> nearest(int from, int to) {
    std::vector<int> picked(to);
    for (int i = 0; i < to; ++i) picked[i] = static_cast<int>(std::min((i + 0.5) * from / to, from - 1.0));
    return picked;
}

/// Copy elements of a size that the compiler knows.
template <std::size_t BYTES>
void pick(const std::uint8_t *source, const std::vector<int> &columns, std::uint8_t *target) {
    for (const int column : columns) {
        std::memcpy(target, source + column * BYTES, BYTES);
        target += BYTES;
    }
}

}  // namespace

Pixels resized(const Pixels &image, int height, int width) {
    const bool smaller = height < image.height;
    const auto rows = smaller ? area_weights(image.height, height) : linear_weights(image.height, height);
    const auto columns = smaller ? area_weights(image.width, width) : linear_weights(image.width, width);
    const int channels = image.channels, row_values = image.width * channels;
    Pixels out{height, width, channels, std::vector<std::uint8_t>(static_cast<std::size_t>(height) * width * channels)};
    std::vector<float> line(row_values);
    for (int y = 0; y < height; ++y) {
        std::fill(line.begin(), line.end(), 0.0f);
        for (std::size_t k = 0; k < rows[y].shares.size(); ++k) {
            const std::uint8_t *source = image.row(rows[y].first + static_cast<int>(k));
            const float share = rows[y].shares[k];
            for (int i = 0; i < row_values; ++i) line[i] += share * source[i];
        }
        std::uint8_t *target = out.row(y);
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < channels; ++c) {
                float sum = 0;
                const float *source = line.data() + columns[x].first * channels + c;
                for (const float share : columns[x].shares) sum += share * *source, source += channels;
                *target++ = static_cast<std::uint8_t>(std::clamp(std::nearbyint(sum), 0.0f, 255.0f));
            }
    }
    return out;
}

Letterbox::Letterbox(int camera_height, int camera_width, int height, int width)
    : camera_height(camera_height),
      camera_width(camera_width),
      height(height),
      width(width),
      scale(std::min(static_cast<double>(height) / camera_height, static_cast<double>(width) / camera_width)),
      scaled_height(scaled_side(camera_height, scale, height)),
      scaled_width(scaled_side(camera_width, scale, width)) {}

void Letterbox::image(const Pixels &image, std::uint8_t blank, std::uint8_t *out) const {
    const bool same = image.height == scaled_height && image.width == scaled_width;
    const Pixels other = same ? Pixels{} : resized(image, scaled_height, scaled_width);
    const Pixels &scaled = same ? image : other;
    const std::size_t filled = static_cast<std::size_t>(scaled_width) * image.channels;
    const std::size_t row = static_cast<std::size_t>(width) * image.channels;
    for (int y = 0; y < height; ++y, out += row) {
        const std::size_t count = y < scaled_height ? filled : 0;
        if (count) std::memcpy(out, scaled.row(y), count);
        std::memset(out + count, blank, row - count);
    }
}

float Letterbox::x_to_camera(float x) const {
    return std::min(std::max(x / static_cast<float>(scale), 0.0f), static_cast<float>(camera_width));
}

float Letterbox::y_to_camera(float y) const {
    return std::min(std::max(y / static_cast<float>(scale), 0.0f), static_cast<float>(camera_height));
}

std::vector<std::uint8_t> Letterbox::map_to_camera(const std::uint8_t *map, std::size_t bytes) const {
    const auto rows = nearest(scaled_height, camera_height), columns = nearest(scaled_width, camera_width);
    std::vector<std::uint8_t> out(static_cast<std::size_t>(camera_height) * camera_width * bytes);
    const std::size_t row_bytes = static_cast<std::size_t>(camera_width) * bytes;
    for (int y = 0; y < camera_height; ++y) {
        std::uint8_t *target = out.data() + y * row_bytes;
        if (y > 0 && rows[y] == rows[y - 1]) {
            std::memcpy(target, target - row_bytes, row_bytes);
            continue;
        }
        const std::uint8_t *source = map + static_cast<std::size_t>(rows[y]) * width * bytes;
        switch (bytes) {
            case 1: pick<1>(source, columns, target); break;
            case 4: pick<4>(source, columns, target); break;
            case 12: pick<12>(source, columns, target); break;
            default:
                for (int x = 0; x < camera_width; ++x)
                    std::memcpy(target + x * bytes, source + columns[x] * bytes, bytes);
        }
    }
    return out;
}

}  // namespace edgemtl::core
