// The way from a camera's image to its modality's 8 bits (`edgemtl_runtime/pixels.py`, `letterbox.to_uint8`).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.hpp"
#include "letterbox.hpp"

namespace edgemtl::core {
namespace {

constexpr int LOSSY_SPREAD = 16;  // levels by which the channels of a grey pixel may differ after lossy compression
constexpr double COLOURED_SHARE = 0.1;  // of coloured pixels from which an image is false colour
constexpr int SAMPLED = 4;              // every fourth row and column is looked at for colour

class Source {
  public:
    explicit Source(const edgemtl_image &image)
        : data(static_cast<const std::uint8_t *>(image.data)),
          image(image),
          pitch(image.row_bytes ? image.row_bytes : static_cast<std::size_t>(image.width) * bytes()) {}

    int channels() const { return image.pixels == EDGEMTL_RGB8 || image.pixels == EDGEMTL_BGR8 ? 3 : 1; }
    std::size_t bytes() const { return image.pixels == EDGEMTL_GREY16 ? 2 : channels(); }
    const std::uint8_t *row(int y) const { return data + y * pitch; }
    std::uint16_t count(int y, int x) const { return reinterpret_cast<const std::uint16_t *>(row(y))[x]; }
    /// Channel c of a pixel in the order red, green, blue.
    std::uint8_t colour(int y, int x, int c) const {
        return row(y)[3 * x + (image.pixels == EDGEMTL_BGR8 ? 2 - c : c)];
    }

  private:
    const std::uint8_t *data;
    const edgemtl_image &image;
    std::size_t pitch;
};

std::string frame_of(const edgemtl_image &image) {
    const std::string camera = image.camera;
    const std::string option = camera == "rgb" || camera == "ir" ? "--" + camera : "--camera " + camera + "=...";
    return option + ": the image ";
}

[[noreturn]] void refuse(const edgemtl_image &image, const std::string &why) {
    throw Failure(EDGEMTL_ERROR_IMAGE, frame_of(image) + why);
}

/// The value at a percentile, between the two nearest of all, as NumPy's "linear" takes it.
double percentile(const std::vector<std::uint64_t> &histogram, std::uint64_t total, double percent) {
    const double at = percent / 100 * static_cast<double>(total - 1);
    const auto lower = static_cast<std::uint64_t>(std::floor(at));
    const auto value_of = [&](std::uint64_t index) {
        std::uint64_t below = 0;
        std::size_t value = 0;
        for (; value < histogram.size() && below + histogram[value] <= index; ++value) below += histogram[value];
        return static_cast<double>(value);
    };
    const double low = value_of(lower), high = value_of(std::min(lower + 1, total - 1)),
                 t = at - static_cast<double>(lower);
    return t >= 0.5 ? high - (high - low) * (1 - t) : low + (high - low) * t;
}

Pixels from_counts(const Source &source, const edgemtl_image &image, const ThermalRange &range) {
    double low = range.low, high = range.high;
    if (range.is_percentile) {
        std::vector<std::uint64_t> histogram(65536);
        for (int y = 0; y < image.height; ++y)
            for (int x = 0; x < image.width; ++x) ++histogram[source.count(y, x)];
        const std::uint64_t total = static_cast<std::uint64_t>(image.height) * image.width;
        low = percentile(histogram, total, range.low), high = percentile(histogram, total, range.high);
    }
    const auto offset = static_cast<float>(low), scale = static_cast<float>(255.0 / std::max(high - low, 1.0));
    Pixels out{image.height, image.width, 1,
               std::vector<std::uint8_t>(static_cast<std::size_t>(image.height) * image.width)};
    for (int y = 0; y < image.height; ++y)
        for (int x = 0; x < image.width; ++x) {
            const float product = (static_cast<float>(source.count(y, x)) - offset) * scale;
            out.row(y)[x] = static_cast<std::uint8_t>(std::clamp(product + 0.5f, 0.0f, 255.0f));
        }
    return out;
}

bool is_coloured(const Source &source, const edgemtl_image &image) {
    std::size_t coloured = 0, looked_at = 0;
    for (int y = 0; y < image.height; y += SAMPLED)
        for (int x = 0; x < image.width; x += SAMPLED, ++looked_at) {
            const auto [least, most] =
                std::minmax({source.colour(y, x, 0), source.colour(y, x, 1), source.colour(y, x, 2)});
            coloured += most - least > LOSSY_SPREAD;
        }
    return static_cast<double>(coloured) / static_cast<double>(looked_at) > COLOURED_SHARE;
}

/// ITU-R BT.601 in whole numbers of 15 bits, as OpenCV has it.
std::uint8_t luma(int red, int green, int blue) {
    return static_cast<std::uint8_t>((9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15);
}

Pixels grey(const Source &source, const edgemtl_image &image) {
    Pixels out{image.height, image.width, 1,
               std::vector<std::uint8_t>(static_cast<std::size_t>(image.height) * image.width)};
    for (int y = 0; y < image.height; ++y) {
        if (source.channels() == 1) {
            std::memcpy(out.row(y), source.row(y), static_cast<std::size_t>(image.width));
            continue;
        }
        for (int x = 0; x < image.width; ++x) {
            out.row(y)[x] = luma(source.colour(y, x, 0), source.colour(y, x, 1), source.colour(y, x, 2));
        }
    }
    return out;
}

Pixels colour(const Source &source, const edgemtl_image &image) {
    Pixels out{image.height, image.width, 3,
               std::vector<std::uint8_t>(static_cast<std::size_t>(image.height) * image.width * 3)};
    for (int y = 0; y < image.height; ++y) {
        std::uint8_t *target = out.row(y);
        if (image.pixels == EDGEMTL_RGB8) {
            std::memcpy(target, source.row(y), static_cast<std::size_t>(image.width) * 3);
            continue;
        }
        for (int x = 0; x < image.width; ++x)
            for (int c = 0; c < 3; ++c) *target++ = source.channels() == 1 ? source.row(y)[x] : source.colour(y, x, c);
    }
    return out;
}

}  // namespace

Pixels as_modality(const edgemtl_image &image, const Input &input) {
    const Source source(image);
    Pixels pixels;
    if (input.modality == "rgb" && image.pixels == EDGEMTL_GREY16) {
        std::uint16_t least = 65535, most = 0;
        for (int y = 0; y < image.height; ++y)
            for (int x = 0; x < image.width; ++x)
                least = std::min(least, source.count(y, x)), most = std::max(most, source.count(y, x));
        refuse(image, "is 1 channel of 16 bits, counts from " + std::to_string(least) + " to " + std::to_string(most) +
                          "; colour has 8 bits: name thermal images ir, or write 8 bits");
    }
    if (image.pixels == EDGEMTL_GREY16)
        pixels = from_counts(source, image, input.thermal_range);
    else if (input.modality == "rgb")
        pixels = colour(source, image);
    else if (source.channels() == 3 && is_coloured(source, image))
        refuse(image, "is a colour image; " + input.modality +
                          " has one channel of 8 or 16 bits, or three equal ones: colours of a palette are no "
                          "temperatures, so export counts or grey levels");
    else
        pixels = grey(source, image);
    if (pixels.channels == input.channels) return pixels;
    // A colour camera of a network of one channel, or the other way round.
    Pixels out{pixels.height, pixels.width, input.channels,
               std::vector<std::uint8_t>(static_cast<std::size_t>(pixels.height) * pixels.width * input.channels)};
    for (std::size_t i = 0, n = static_cast<std::size_t>(pixels.height) * pixels.width; i < n; ++i) {
        const std::uint8_t *from = &pixels.data[i * pixels.channels];
        if (input.channels == 1)
            out.data[i] = luma(from[0], from[1], from[2]);
        else
            std::fill_n(&out.data[i * 3], 3, from[0]);
    }
    return out;
}

}  // namespace edgemtl::core
