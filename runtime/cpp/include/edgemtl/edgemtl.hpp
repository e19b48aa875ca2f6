// edgemtl in C++17: run a bundle that `edgemtl export` wrote, over the C functions of edgemtl.h.
//
//     edgemtl::Network network("street");
//     edgemtl::Result result = network.run({edgemtl::image("rgb", pixels, 480, 640, EDGEMTL_RGB8, stamp_ns)});
//     for (const edgemtl::Box &box : result.boxes("boxes"))
//         std::cout << network.head("boxes").class_name(box) << " " << box.score << "\n";
//
// What fails throws edgemtl::Error with the line that says what was found, where, and what to do; nothing is thrown
// across the library. Any thread may use a network; runs wait for one another. edgemtl.h has units and lifetimes.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgemtl/edgemtl.h"

namespace edgemtl {

class Error : public std::runtime_error {
  public:
    explicit Error(edgemtl_status code) : Error(code, edgemtl_last_error()) {}
    Error(edgemtl_status code, const std::string &line) : std::runtime_error(line), status(code) {}
    edgemtl_status status;
};

inline void check(edgemtl_status status) {
    if (status != EDGEMTL_OK) throw Error(status);
}

using Box = edgemtl_box;
using Point = edgemtl_point;
using Image = edgemtl_image;

/// An image, without a copy of its pixels or of its camera's name: both live until the run is over. `row_bytes` are
/// from one row to the next, where rows end in padding.
inline Image image(const char *camera, const void *data, int height, int width, edgemtl_pixels pixels,
                   std::int64_t stamp_ns = 0, std::size_t row_bytes = 0) {
    return {camera, data, height, width, row_bytes, pixels, stamp_ns};
}

/// A part of a result by pointer and length; it lives as long as the result.
template <class T>
class Span {
  public:
    Span() = default;
    Span(const T *data, std::size_t size) : first(data), count(size) {}
    const T *begin() const { return first; }
    const T *end() const { return first + count; }
    const T *data() const { return first; }
    std::size_t size() const { return count; }
    bool empty() const { return count == 0; }
    const T &operator[](std::size_t index) const { return first[index]; }

  private:
    const T *first = nullptr;
    std::size_t count = 0;
};

/// A map of the camera's size, row by row: classes (uint8), or numbers (float) in one component or several. It lives as
/// long as the result.
template <class T>
struct Map {
    const T *data = nullptr;
    int height = 0, width = 0, components = 1;

    const T *begin() const { return data; }
    const T *end() const { return data + size(); }
    std::size_t size() const { return at_index(height, 0); }
    /// The value at row y and column x, which must be inside.
    const T &at(int y, int x, int component = 0) const {
        return data[at_index(y, x) + static_cast<std::size_t>(component)];
    }
    /// The value at a point in pixels, such as the middle of a box; that of the nearest pixel where it is outside.
    const T &nearest(float x, float y, int component = 0) const {
        const auto inside = [](float value, int side) {
            return value > 0 ? std::min(static_cast<int>(value), side - 1) : 0;
        };
        return at(inside(y, height), inside(x, width), component);
    }

  private:
    std::size_t at_index(int y, int x) const {
        return (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)) *
               static_cast<std::size_t>(components);
    }
};

/// A head of a network; it lives as long as the network.
struct Head : edgemtl_head {
    std::string class_name(std::int64_t index) const {
        if (index < 0 || static_cast<std::uint64_t>(index) >= class_count)
            throw Error(EDGEMTL_ERROR_ARGUMENT, std::string("head ") + name + " has no class " + std::to_string(index));
        return classes[index];
    }
    std::string class_name(const Box &box) const { return class_name(box.class_index); }
    std::string class_name(const Point &point) const { return class_name(point.class_index); }
    /// The index of a class; throws where there is none of that name.
    int class_index(const std::string &wanted) const {
        for (std::size_t i = 0; i < class_count; ++i)
            if (wanted == classes[i]) return static_cast<int>(i);
        throw Error(EDGEMTL_ERROR_ARGUMENT, std::string("head ") + name + " has no class " + wanted);
    }
};

/// The results of one run, in the pixels of `camera`.
class Result {
  public:
    explicit Result(edgemtl_result *handle) : result(handle, edgemtl_free_result) {}

    std::string camera() const { return edgemtl_result_camera(result.get()); }
    int height() const { return edgemtl_result_height(result.get()); }
    int width() const { return edgemtl_result_width(result.get()); }
    /// Of the image of `camera`.
    std::int64_t camera_stamp_ns() const { return edgemtl_result_camera_stamp_ns(result.get()); }
    /// Of the latest image.
    std::int64_t stamp_ns() const { return edgemtl_result_stamp_ns(result.get()); }
    /// From the earliest image to the latest.
    std::int64_t skew_ns() const { return edgemtl_result_skew_ns(result.get()); }

    Span<Box> boxes(const std::string &head) const {
        const edgemtl_head_result one = of(head, {EDGEMTL_BOXES});
        return {one.boxes, one.count};
    }
    Span<Point> points(const std::string &head) const {
        const edgemtl_head_result one = of(head, {EDGEMTL_POINTS});
        return {one.points, one.count};
    }
    /// An index into the head's classes for every pixel.
    Map<std::uint8_t> labels(const std::string &head) const { return map<std::uint8_t>(of(head, {EDGEMTL_LABEL_MAP})); }
    /// Metres, or multiples of an unknown unit where the head's class is "relative".
    Map<float> depth(const std::string &head) const { return map<float>(of(head, {EDGEMTL_DEPTH_MAP})); }
    /// Unit vectors: components x right, y down, z forward.
    Map<float> normals(const std::string &head) const { return map<float>(of(head, {EDGEMTL_NORMAL_MAP})); }
    /// Scores from 0 to 1; an edge from `thresholds(head)[0]` on.
    Map<float> edges(const std::string &head) const { return map<float>(of(head, {EDGEMTL_EDGE_MAP})); }
    /// A map of any other numbers.
    Map<float> numbers(const std::string &head) const {
        return map<float>(of(head, {EDGEMTL_SCALAR_MAP, EDGEMTL_VECTOR_MAP}));
    }
    /// Attributes' scores, or scalars: one for every class.
    Span<float> values(const std::string &head) const {
        const edgemtl_head_result one = of(head, {EDGEMTL_ATTRIBUTES, EDGEMTL_SCALARS});
        return {static_cast<const float *>(one.values), static_cast<std::size_t>(one.shape[0])};
    }
    /// The indices of the attributes that hold: whose score has reached its threshold.
    std::vector<int> holding(const std::string &head) const {
        const Span<float> scores = values(head), least = thresholds(head);
        std::vector<int> all;
        for (std::size_t i = 0; i < least.size(); ++i)
            if (scores[i] >= least[i]) all.push_back(static_cast<int>(i));
        return all;
    }
    /// Those of this run: of attributes one for every class, of edges one, else none.
    Span<float> thresholds(const std::string &head) const {
        const edgemtl_head_result one = raw(head);
        if (!one.thresholds) return {};
        return {one.thresholds, one.kind == EDGEMTL_ATTRIBUTES ? static_cast<std::size_t>(one.shape[0]) : 1};
    }
    /// What the C function gives: of any kind.
    edgemtl_head_result raw(const std::string &head) const {
        edgemtl_head_result one;
        check(edgemtl_result_head(result.get(), head.c_str(), &one));
        return one;
    }

  private:
    edgemtl_head_result of(const std::string &head, std::initializer_list<edgemtl_kind> kinds) const {
        const edgemtl_head_result one = raw(head);
        for (const edgemtl_kind kind : kinds)
            if (one.kind == kind) return one;
        throw Error(EDGEMTL_ERROR_ARGUMENT, "head " + head + " has results of another kind");
    }
    template <class T>
    static Map<T> map(const edgemtl_head_result &one) {
        return {static_cast<const T *>(one.values), static_cast<int>(one.shape[0]), static_cast<int>(one.shape[1]),
                one.dimensions > 2 ? static_cast<int>(one.shape[2]) : 1};
    }

    std::unique_ptr<edgemtl_result, void (*)(edgemtl_result *)> result;
};

/// An opened bundle. One that was moved from may only be destroyed or assigned to.
class Network {
  public:
    explicit Network(const std::string &folder, edgemtl_options options = edgemtl_default_options())
        : network(nullptr, edgemtl_close) {
        edgemtl_network *opened = nullptr;
        check(edgemtl_open(folder.c_str(), &options, &opened));
        network.reset(opened);
    }

    std::vector<edgemtl_input> inputs() const {
        std::vector<edgemtl_input> all(edgemtl_input_count(network.get()));
        for (std::size_t i = 0; i < all.size(); ++i) check(edgemtl_get_input(network.get(), i, &all[i]));
        return all;
    }
    std::vector<Head> heads() const {
        std::vector<Head> all(edgemtl_head_count(network.get()));
        for (std::size_t i = 0; i < all.size(); ++i) check(edgemtl_get_head(network.get(), i, &all[i]));
        return all;
    }
    Head head(const std::string &name) const {
        for (const Head &one : heads())
            if (name == one.name) return one;
        throw Error(EDGEMTL_ERROR_ARGUMENT, "no head " + name);
    }
    void set_threshold(const std::string &head, float threshold, const char *class_name = nullptr) {
        check(edgemtl_set_threshold(network.get(), head.c_str(), class_name, threshold));
    }
    /// Run on images that were captured together, one of each camera that has one.
    Result run(const std::vector<Image> &images) {
        edgemtl_result *result = nullptr;
        check(edgemtl_run(network.get(), images.data(), images.size(), &result));
        return Result(result);
    }

  private:
    std::unique_ptr<edgemtl_network, void (*)(edgemtl_network *)> network;
};

}  // namespace edgemtl
