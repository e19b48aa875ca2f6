#include "letterbox.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace edgemtl::core {
namespace {

constexpr double NEGLIGIBLE = 1e-3;  // parts of a pixel that OpenCV leaves out

int scaled_side(int side, double scale, int most) {
    return std::max(1, std::min(static_cast<int>(std::nearbyint(side * scale)), most));  // halves to even, as Python's
}

/// The source pixels that a destination pixel covers, and how much of each.
struct Weights {
    int first = 0;
    std::vector<float> shares;
};

/// What OpenCV's INTER_AREA gives to each source pixel: the part of it that the destination pixel covers.
std::vector<Weights> area_weights(int from, int to) {
    const double ratio = static_cast<double>(from) / to;
    std::vector<Weights> all(to);
    for (int i = 0; i < to; ++i) {
        const double begin = i * ratio, end = begin + ratio, cell = std::min(ratio, from - begin);
        const int last = std::min(static_cast<int>(std::floor(end)), from - 1);
        const int whole = std::min(static_cast<int>(std::ceil(begin)), last);
        const bool part = whole - begin > NEGLIGIBLE;
        Weights &weights = all[i];
        weights.first = part ? whole - 1 : whole;
        if (part) weights.shares.push_back(static_cast<float>((whole - begin) / cell));
        for (int k = whole; k < last; ++k) weights.shares.push_back(static_cast<float>(1.0 / cell));
        if (end - last > NEGLIGIBLE)
            weights.shares.push_back(static_cast<float>(std::min(std::min(end - last, 1.0), cell) / cell));
    }
    return all;
}

/// A row resized along its columns, of a number of channels that the compiler knows.
template <int CHANNELS>
void area_of_row(const std::uint8_t *row, const std::vector<Weights> &columns, float *line) {
    for (const Weights &column : columns) {
        const std::uint8_t *source = row + static_cast<std::ptrdiff_t>(column.first) * CHANNELS;
        float totals[CHANNELS] = {};
        for (const float share : column.shares)
            for (int c = 0; c < CHANNELS; ++c) totals[c] += static_cast<float>(*source++) * share;
        for (int c = 0; c < CHANNELS; ++c) *line++ = totals[c];
    }
}

/// Smaller by the areas of pixels: columns first, then rows, in the order and precision of OpenCV's INTER_AREA.
Pixels by_area(const Pixels &image, int height, int width) {
    const auto rows = area_weights(image.height, height), columns = area_weights(image.width, width);
    const std::size_t values = static_cast<std::size_t>(width) * image.channels;
    Pixels out{height, width, image.channels, std::vector<std::uint8_t>(height * values)};
    std::vector<float> line(values), sum(values);
    int in_line = -1;  // two rows of the result share one of the image
    for (int y = 0; y < height; ++y) {
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (std::size_t k = 0; k < rows[y].shares.size(); ++k) {
            const int row = rows[y].first + static_cast<int>(k);
            if (row != in_line)
                (image.channels == 1 ? area_of_row<1> : area_of_row<3>)(image.row(row), columns, line.data());
            in_line = row;
            const float share = rows[y].shares[k];
            for (std::size_t i = 0; i < values; ++i) sum[i] += share * line[i];
        }
        std::uint8_t *target = out.row(y);
        for (std::size_t i = 0; i < values; ++i)
            target[i] = static_cast<std::uint8_t>(std::clamp(std::nearbyint(sum[i]), 0.0f, 255.0f));
    }
    return out;
}

template <int CHANNELS>
void sums_of_blocks(const std::uint32_t *line, int width, int right, std::uint32_t *sums) {
    for (int x = 0; x < width; ++x, sums += CHANNELS) {
        for (int c = 0; c < CHANNELS; ++c) sums[c] = 0;
        for (int i = 0; i < right; ++i)
            for (int c = 0; c < CHANNELS; ++c) sums[c] += *line++;
    }
}

/// Smaller by whole factors: the mean of a block of pixels, whose halves OpenCV rounds up for blocks of 2x2 alone.
Pixels by_blocks(const Pixels &image, int height, int width) {
    const int down = image.height / height, right = image.width / width, channels = image.channels;
    const bool of_four = down == 2 && right == 2;
    const float share = 1.0f / static_cast<float>(down * right);
    const std::size_t values = static_cast<std::size_t>(width) * channels;
    Pixels out{height, width, channels, std::vector<std::uint8_t>(height * values)};
    std::vector<std::uint32_t> lines(values * right), sums(values);
    for (int y = 0; y < height; ++y) {
        std::fill(lines.begin(), lines.end(), 0u);
        for (int k = 0; k < down; ++k) {
            const std::uint8_t *source = image.row(y * down + k);
            for (std::size_t i = 0; i < lines.size(); ++i) lines[i] += source[i];
        }
        (channels == 1 ? sums_of_blocks<1> : sums_of_blocks<3>)(lines.data(), width, right, sums.data());
        std::uint8_t *target = out.row(y);
        for (std::size_t i = 0; i < values; ++i)
            target[i] = static_cast<std::uint8_t>(
                of_four ? (sums[i] + 2) >> 2
                        : static_cast<std::uint32_t>(std::nearbyint(static_cast<float>(sums[i]) * share)));
    }
    return out;
}

/// Two neighbours of a destination pixel and their shares in 2048ths, as OpenCV's INTER_LINEAR has them.
struct Between {
    int first, second, first_share, second_share;
};

std::vector<Between> between(int from, int to, bool clamp_shares) {
    const double ratio = static_cast<double>(from) / to;
    std::vector<Between> all(to);
    for (int i = 0; i < to; ++i) {
        const auto centre = static_cast<float>((i + 0.5) * ratio - 0.5);
        int first = static_cast<int>(std::floor(centre));
        float share = centre - static_cast<float>(first);
        if (clamp_shares && (first < 0 || first >= from - 1)) share = 0, first = std::clamp(first, 0, from - 1);
        all[i] = {std::clamp(first, 0, from - 1), std::clamp(first + 1, 0, from - 1),
                  static_cast<int>(std::nearbyint((1.0f - share) * 2048)),
                  static_cast<int>(std::nearbyint(share * 2048))};
    }
    return all;
}

/// Larger by linear interpolation, in the fixed point of OpenCV's INTER_LINEAR.
Pixels by_lines(const Pixels &image, int height, int width) {
    // OpenCV moves the outermost columns to the edge, but lets the outermost rows be twice the same row.
    const auto rows = between(image.height, height, false), columns = between(image.width, width, true);
    const int channels = image.channels;
    const std::size_t values = static_cast<std::size_t>(width) * channels;
    Pixels out{height, width, channels, std::vector<std::uint8_t>(height * values)};
    std::vector<int> lines[2] = {std::vector<int>(values), std::vector<int>(values)};
    const auto fill = [&](std::vector<int> &line, const std::uint8_t *row) {
        int *value = line.data();
        for (const Between &at : columns)
            for (int c = 0; c < channels; ++c)
                *value++ =
                    row[at.first * channels + c] * at.first_share + row[at.second * channels + c] * at.second_share;
    };
    for (int y = 0; y < height; ++y) {
        const Between &at = rows[y];
        fill(lines[0], image.row(at.first));
        fill(lines[1], image.row(at.second));
        std::uint8_t *target = out.row(y);
        for (std::size_t i = 0; i < values; ++i) {
            const int upper = at.first_share * (lines[0][i] >> 4) >> 16,
                      lower = at.second_share * (lines[1][i] >> 4) >> 16;
            target[i] = static_cast<std::uint8_t>(std::clamp((upper + lower + 2) >> 2, 0, 255));
        }
    }
    return out;
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
    if (height >= image.height) return by_lines(image, height, width);
    if (image.height % height == 0 && image.width % width == 0) return by_blocks(image, height, width);
    return by_area(image, height, width);
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
    const std::size_t row_bytes = static_cast<std::size_t>(camera_width) * bytes;
    if (camera_width == width && camera_height == scaled_height && camera_width == scaled_width)
        return {map, map + row_bytes * static_cast<std::size_t>(camera_height)};
    const auto rows = nearest(scaled_height, camera_height), columns = nearest(scaled_width, camera_width);
    std::vector<std::uint8_t> out(static_cast<std::size_t>(camera_height) * row_bytes);
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
