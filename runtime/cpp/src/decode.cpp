#include "decode.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>

#include "failure.hpp"
#include "text.hpp"

namespace edgemtl::core {
namespace {

constexpr std::size_t MOST_KEPT = 300;  // boxes of an image after suppression

const std::map<std::string, edgemtl_kind> KINDS{
    {"topk_boxes", EDGEMTL_BOXES},      {"nms_boxes", EDGEMTL_BOXES},       {"label_map", EDGEMTL_LABEL_MAP},
    {"depth_map", EDGEMTL_DEPTH_MAP},   {"normal_map", EDGEMTL_NORMAL_MAP}, {"edge_map", EDGEMTL_EDGE_MAP},
    {"attributes", EDGEMTL_ATTRIBUTES}, {"scalar_map", EDGEMTL_SCALAR_MAP}, {"vector_map", EDGEMTL_VECTOR_MAP},
    {"points", EDGEMTL_POINTS},         {"scalars", EDGEMTL_SCALARS},       {"tensor", EDGEMTL_TENSOR},
};

float half(std::uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const float fraction = static_cast<float>(bits & 1023) / 1024.0f, sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
    return sign * (exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15));
}

Failure failure(const Head &head, const std::string &what) {
    return {EDGEMTL_ERROR_ENGINE, head.name + ": " + what + "; export the bundle again"};
}

std::string shape_text(const std::vector<std::int64_t> &shape) {
    std::vector<std::string> sizes;
    for (const std::int64_t size : shape) sizes.push_back(std::to_string(size));
    return "(" + joined(sizes, ", ") + (sizes.size() == 1 ? ",)" : ")");
}

/// Throw where an output has another type or shape than its decoder reads.
void check_output(const Output &output, const Head &head, edgemtl_kind kind) {
    static const std::array<const char *, 6> names{"float16", "float32", "float64", "uint8", "int64", "another type"};
    const bool is_float = output.type <= Output::Type::float64, is_float32 = output.type == Output::Type::float32;
    std::vector<std::int64_t> sizes;  // -1: any
    bool fits = true;
    switch (kind) {
        case EDGEMTL_BOXES: fits = is_float, sizes = {-1, 6}; break;
        case EDGEMTL_POINTS: fits = is_float, sizes = {-1, 4}; break;
        case EDGEMTL_ATTRIBUTES:
        case EDGEMTL_SCALARS: fits = is_float, sizes = {-1}; break;
        case EDGEMTL_LABEL_MAP: fits = output.type == Output::Type::uint8, sizes = {-1, -1}; break;
        case EDGEMTL_NORMAL_MAP: fits = is_float32, sizes = {-1, -1, 3}; break;
        case EDGEMTL_VECTOR_MAP: fits = is_float32, sizes = {-1, -1, -1}; break;
        case EDGEMTL_TENSOR: return;
        default: fits = is_float32, sizes = {-1, -1};
    }
    fits = fits && output.shape.size() == sizes.size();
    for (std::size_t i = 0; fits && i < sizes.size(); ++i)
        fits = (sizes[i] < 0 || output.shape[i] == sizes[i]) && (i == 0 || output.shape[i] != 0);
    if (!fits)
        throw failure(head, std::string("the network gives ") + names[static_cast<std::size_t>(output.type)] + " " +
                                shape_text(output.shape) + ", which " + head.decoder + " does not read");
}

void check_class(double id, const Head &head) {
    if (!(id >= 0 && id < static_cast<double>(head.classes.size())))
        throw failure(head, "the network gives a class " + number(id) + ", the manifest names " +
                                std::to_string(head.classes.size()));
}

float threshold_of(const std::vector<float> &thresholds, std::size_t id) {
    return thresholds.size() > 1 ? thresholds[id] : thresholds[0];
}

/// The indices of rows of finite numbers whose class is one of the head's; `column` holds it.
std::vector<std::size_t> finite_rows(const Output &output, const Head &head, std::size_t columns, std::size_t column) {
    std::vector<std::size_t> rows;
    for (std::size_t row = 0; row < static_cast<std::size_t>(output.shape[0]); ++row) {
        bool finite = true;
        for (std::size_t c = 0; c < columns; ++c) finite = finite && std::isfinite(output.at(row * columns + c));
        if (!finite) continue;
        check_class(output.at(row * columns + column), head);
        rows.push_back(row);
    }
    return rows;
}

std::vector<edgemtl_box> boxes(const Output &output, const Head &head, const Letterbox &letterbox,
                               const std::vector<float> &thresholds) {
    std::vector<edgemtl_box> kept;
    for (const std::size_t row : finite_rows(output, head, 6, 5)) {
        const auto value = [&](std::size_t column) { return output.at(row * 6 + column); };
        const auto id = static_cast<std::size_t>(value(5));
        if (!(value(4) >= threshold_of(thresholds, id))) continue;
        const auto edge = [&](std::size_t column) { return static_cast<float>(value(column)); };
        kept.push_back({letterbox.x_to_camera(edge(0)), letterbox.y_to_camera(edge(1)), letterbox.x_to_camera(edge(2)),
                        letterbox.y_to_camera(edge(3)), edge(4), static_cast<std::int32_t>(id)});
    }
    return kept;
}

/// Suppression by class: a box goes where a better one of its class covers it by an IoU above `max_iou`.
std::vector<edgemtl_box> suppressed(std::vector<edgemtl_box> all, double max_iou) {
    std::stable_sort(all.begin(), all.end(),
                     [](const edgemtl_box &a, const edgemtl_box &b) { return a.score > b.score; });
    const auto area = [](const edgemtl_box &box) {
        return std::max(box.x2 - box.x1, 0.0f) * std::max(box.y2 - box.y1, 0.0f);
    };
    std::vector<bool> left(all.size(), true);
    std::vector<edgemtl_box> kept;
    for (std::size_t i = 0; i < all.size() && kept.size() < MOST_KEPT; ++i) {
        if (!left[i]) continue;
        kept.push_back(all[i]);
        for (std::size_t k = i + 1; k < all.size(); ++k) {
            if (!left[k] || all[k].class_index != all[i].class_index) continue;
            const edgemtl_box &a = all[i], &b = all[k];
            const float inside = std::max(std::min(b.x2, a.x2) - std::max(b.x1, a.x1), 0.0f) *
                                 std::max(std::min(b.y2, a.y2) - std::max(b.y1, a.y1), 0.0f);
            const float joint = area(b) + area(a) - inside;
            left[k] = !(inside > static_cast<float>(max_iou) * joint);
        }
    }
    return kept;
}

std::vector<edgemtl_point> points(const Output &output, const Head &head, const Letterbox &letterbox,
                                  const std::vector<float> &thresholds) {
    std::vector<edgemtl_point> kept;
    for (const std::size_t row : finite_rows(output, head, 4, 3)) {
        const double x = output.at(row * 4), y = output.at(row * 4 + 1), score = output.at(row * 4 + 2);
        const auto id = static_cast<std::size_t>(output.at(row * 4 + 3));
        const bool inside = x <= letterbox.scaled_width && y <= letterbox.scaled_height;  // none in the padding
        if (inside && score >= threshold_of(thresholds, id))
            kept.push_back({letterbox.x_to_camera(static_cast<float>(x)), letterbox.y_to_camera(static_cast<float>(y)),
                            static_cast<float>(score), static_cast<std::int32_t>(id)});
    }
    return kept;
}

std::size_t element_size(Output::Type type) {
    switch (type) {
        case Output::Type::float16: return 2;
        case Output::Type::float32: return 4;
        case Output::Type::uint8: return 1;
        default: return 8;
    }
}

void write_map(HeadResult &result, const Output &output, const Head &head, const Letterbox &letterbox) {
    if (output.shape[0] != letterbox.height || output.shape[1] != letterbox.width)
        throw failure(head, "the network gives a map of " + shape_text(output.shape));
    const std::size_t components = output.shape.size() > 2 ? static_cast<std::size_t>(output.shape[2]) : 1;
    const std::size_t bytes = components * element_size(output.type);
    result.values = letterbox.map_to_camera(static_cast<const std::uint8_t *>(output.data), bytes);
    result.shape = {letterbox.camera_height, letterbox.camera_width};
    if (output.shape.size() > 2) result.shape.push_back(output.shape[2]);
    result.element = output.type == Output::Type::uint8 ? EDGEMTL_UINT8 : EDGEMTL_FLOAT32;
}

void write_floats(HeadResult &result, const Output &output) {
    result.values.resize(output.size() * sizeof(float));
    for (std::size_t i = 0; i < output.size(); ++i) {
        const auto value = static_cast<float>(output.at(i));
        std::memcpy(&result.values[i * sizeof value], &value, sizeof value);
    }
    result.shape = output.shape, result.element = EDGEMTL_FLOAT32;
}

void write_by_class(HeadResult &result, const Output &output, const Head &head, const char *what) {
    if (output.shape != std::vector<std::int64_t>{static_cast<std::int64_t>(head.classes.size())})
        throw failure(head, std::to_string(output.size()) + " " + what + " for " + std::to_string(head.classes.size()) +
                                " names");
    write_floats(result, output);
}

void write_tensor(HeadResult &result, const Output &output, const Head &head) {
    if (output.type <= Output::Type::float64) return write_floats(result, output);
    if (output.type == Output::Type::other)
        throw failure(head, "the network gives numbers of a type that is not read here");
    const auto *bytes = static_cast<const std::uint8_t *>(output.data);
    result.values.assign(bytes, bytes + output.size() * element_size(output.type));
    result.shape = output.shape, result.element = output.type == Output::Type::uint8 ? EDGEMTL_UINT8 : EDGEMTL_INT64;
}

}  // namespace

std::size_t Output::size() const {
    return static_cast<std::size_t>(std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
}

double Output::at(std::size_t index) const {
    switch (type) {
        case Type::float16: return half(static_cast<const std::uint16_t *>(data)[index]);
        case Type::float32: return static_cast<const float *>(data)[index];
        default: return static_cast<const double *>(data)[index];
    }
}

std::optional<edgemtl_kind> kind_of(const std::string &decoder) {
    const auto found = KINDS.find(decoder);
    return found == KINDS.end() ? std::nullopt : std::optional(found->second);
}

bool has_thresholds(const Head &head) {
    return head.decoder == "topk_boxes" || head.decoder == "nms_boxes" || head.decoder == "points" ||
           head.decoder == "attributes" || head.decoder == "edge_map";
}

HeadResult decode(const Output &output, const Head &head, const Letterbox &letterbox,
                  const std::vector<float> &thresholds) {
    HeadResult result;
    result.kind = kind_of(head.decoder).value();
    check_output(output, head, result.kind);
    switch (result.kind) {
        case EDGEMTL_BOXES:
            result.boxes = boxes(output, head, letterbox, thresholds);
            if (head.decoder == "nms_boxes") result.boxes = suppressed(std::move(result.boxes), head.nms_iou);
            break;
        case EDGEMTL_POINTS: result.points = points(output, head, letterbox, thresholds); break;
        case EDGEMTL_ATTRIBUTES:
            write_by_class(result, output, head, "scores");
            result.thresholds.resize(head.classes.size());
            for (std::size_t i = 0; i < head.classes.size(); ++i) result.thresholds[i] = threshold_of(thresholds, i);
            break;
        case EDGEMTL_SCALARS: write_by_class(result, output, head, "numbers"); break;
        case EDGEMTL_TENSOR: write_tensor(result, output, head); break;
        case EDGEMTL_LABEL_MAP:
            for (std::size_t i = 0; i < output.size(); ++i)
                check_class(static_cast<const std::uint8_t *>(output.data)[i], head);
            write_map(result, output, head, letterbox);
            break;
        case EDGEMTL_VECTOR_MAP:
            if (output.shape[2] != static_cast<std::int64_t>(head.classes.size()))
                throw failure(head, std::to_string(output.shape[2]) + " components for " +
                                        std::to_string(head.classes.size()) + " names");
            write_map(result, output, head, letterbox);
            break;
        default:
            write_map(result, output, head, letterbox);
            if (result.kind == EDGEMTL_EDGE_MAP) result.thresholds = {thresholds[0]};
    }
    return result;
}

}  // namespace edgemtl::core
